/**
 * Answers that came with the page instead of from a server: `kernelscope look` writes them into its file.
 *
 * Each is kept, packed by gzip, under its method, path, query (in order of names) and the content type that was asked
 * for. The one image of such a file is the body of every POST. `service/look/recording.py` is the other side.
 */

const element = globalThis.document?.getElementById("recording");

/** What the file holds, or `null` where the page comes from a server. */
export const recording = element ? JSON.parse(element.textContent) : null;

/** The recorded reply as `fetch` would give it; `null` where there is none. */
export function recorded(method, path, query, accept) {
  const sorted = [...query].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const reply = recording.replies[JSON.stringify([method, path, sorted, accept])];
  if (!reply) return null;
  const plain = new Blob([bytesOf(reply.body)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(plain, { status: reply.status, headers: reply.headers });
}

/** What base64 text stands for. */
export function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
