/** One image: the answer first, then how it arose. */

import { ApiError } from "../lib/api.js";
import { h, replace } from "../lib/dom.js";
import { problem } from "../lib/problem.js";
import { answers } from "./answers.js";
import { imageInput } from "./input.js";
import { welcome } from "./welcome.js";

export function mount(root, store) {
  const input = h("section", { class: "stage-image", "aria-label": "The image" });
  const answer = h("section", { class: "stage-answers", "aria-label": "The answer" });
  const below = h("div", { class: "inside" });
  root.append(h("div", { class: "stage" }, input, answer), below);
  imageInput(input, store);
  welcome(answer, store);
  answers(answer, store);
  const loading = new AbortController();
  const begin = (image) => {
    if (!image || loading.signal.aborted) return;
    loading.abort();
    load(below, store);
  };
  store.follow("image", begin, loading.signal);
}

/** Load what looks inside: the page can be used, and the answer asked for, without it. */
async function load(root, store) {
  try {
    const { inside } = await import("../inside/inside.js");
    inside(root, store);
  } catch {
    replace(root, problem(new ApiError("The page could not be loaded as a whole. Is the server still running?")));
  }
}
