/** One image: the answer first, then how it arose. */

import { h } from "../lib/dom.js";
import { answers } from "./answers.js";
import { imageInput } from "./input.js";
import { welcome } from "./welcome.js";

export function mount(root, store) {
  const input = h("section", { class: "stage-image", "aria-label": "The image" });
  const answer = h("section", { class: "stage-answers", "aria-label": "The answer" });
  const inside = h("div", { class: "inside" });
  root.append(h("div", { class: "stage" }, input, answer), inside);
  imageInput(input, store);
  welcome(answer, store);
  answers(answer, store);
}
