/** Calls of the REST interface, relative to the page, with the key where one is set and errors in the API's words. */

import { forget, keyNow, ask } from "./key.js";
import { recorded, recording } from "./recording.js";

/** What the API refused, or what kept it from answering. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "", retry = 0 } = {}) {
    super(message);
    this.name = "ApiError";
    Object.assign(this, { status, code, retry });
  }
}

/**
 * One call.
 * @param {string} path relative to the page, without a slash before it
 * @param {{query?: Object, body?: BodyInit, accept?: string, signal?: AbortSignal}} [options] a body makes it a POST;
 *   values of the query that are null are left out
 * @returns {Promise<Response>} only what succeeded
 */
export async function call(path, { query = {}, body, accept = "application/json", signal } = {}) {
  const method = body === undefined ? "GET" : "POST";
  const pairs = new URLSearchParams(Object.entries(query).filter(([, value]) => value != null));
  if (recording) {
    const reply = recorded(method, path, pairs, accept);
    if (reply) return checked(reply);
    throw new ApiError("This file does not hold that: kernelscope serve shows it.", { code: "not_recorded" });
  }
  const address = new URL(pairs.size ? `${path}?${pairs}` : path, document.baseURI);
  for (;;) {
    const headers = { accept };
    if (keyNow()) headers.authorization = `Bearer ${keyNow()}`;
    if (body instanceof Blob) headers["content-type"] = "application/octet-stream";
    let reply;
    try {
      reply = await fetch(address, { method, headers, body, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The server does not answer. Is it still running?", { code: "unreachable" });
    }
    if (reply.status !== 401) return checked(reply);
    const refused = Boolean(keyNow());
    forget();
    if (!(await ask(refused))) return checked(reply);
  }
}

/** A call whose answer is JSON. */
export async function json(path, options) {
  return (await call(path, options)).json();
}

async function checked(reply) {
  if (reply.ok) return reply;
  const text = await reply.text();
  let error = {};
  try {
    error = JSON.parse(text).error ?? {};
  } catch {
    // a proxy's page, say: its status is all there is to tell
  }
  throw new ApiError(sentence(error.message ?? `The server answered ${reply.status} ${reply.statusText}`), {
    status: reply.status,
    code: error.code ?? "",
    retry: Number(reply.headers.get("retry-after") ?? 0),
  });
}

function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}
