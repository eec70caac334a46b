/** A bar from the middle: to the right for what adds, to the left for what takes away. */

import { h } from "../lib/dom.js";

/** @param {number} share -1 to 1 */
export function bar(share) {
  return h("span", { class: share < 0 ? "diverging minus" : "diverging", "aria-hidden": "true", style: { "--share": Math.min(1, Math.abs(share)) } });
}
