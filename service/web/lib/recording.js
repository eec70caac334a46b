/**
 * Answers that came with the page instead of from a server: `kernelscope look` writes them into its file.
 *
 * Each is kept under its method, path, query (in order of names) and the content type that was asked for. The one
 * image of such a file is the body of every POST.
 */

const element = globalThis.document?.getElementById("recording");

/** What the file holds, or `null` where the page comes from a server. */
export const recording = element ? JSON.parse(element.textContent) : null;

/** The recorded reply as `fetch` would give it; `null` where there is none. */
export function recorded(method, path, query, accept) {
  const sorted = [...query].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const key = `${method} ${path}?${new URLSearchParams(sorted)} ${accept}`;
  const reply = recording.replies[key];
  if (!reply) return null;
  const body = Uint8Array.from(atob(reply.body), (letter) => letter.charCodeAt(0));
  return new Response(body, { status: reply.status, headers: reply.headers });
}
