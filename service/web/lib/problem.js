/** What went wrong, said to the person, with a way on where there is one. */

import { announce, h } from "./dom.js";

/**
 * A notice of an error.
 * @param {Error} error
 * @param {() => void} [again] what "Try again" does
 */
export function problem(error, again) {
  if (error.name !== "ApiError") console.error(error);
  const text = error.name === "ApiError" ? error.message : "This page has a fault: the browser's console says more.";
  announce(text);
  return h("p", { class: "notice", role: "alert" }, text, again ? [" ", h("button", { onclick: again }, "Try again")] : null);
}
