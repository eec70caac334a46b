/** The training images that the last layer finds most like this one. */

import { h, replace } from "../lib/dom.js";
import { problem } from "../lib/problem.js";
import { examples } from "./features.js";

export async function neighbours(root, subject, { stored, cannot }) {
  const missing = !stored?.neighbours;
  root.hidden = missing && !cannot?.neighbours;
  const body = h("div", { "aria-busy": "true" });
  replace(
    root,
    h("h3", { id: "alike-title", class: "title" }, "Which training images are like it?"),
    h("p", { class: "soft" }, "Nearest by the features of the last layer. Likeness to the network, not to an eye."),
    body,
  );
  if (missing) {
    body.removeAttribute("aria-busy");
    replace(body, h("p", { class: "soft" }, cannot?.neighbours));
    return;
  }
  try {
    const { neighbours: found } = await subject.neighbours();
    replace(body, examples(found, (one) => `likeness ${one.similarity.toFixed(3)}`));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.code === "not_recorded") replace(body, h("p", { class: "soft" }, error.message));
    else replace(body, problem(error));
  } finally {
    body.removeAttribute("aria-busy");
  }
}
