/** How the answer arose: where, by which features, and layer by layer down to one value. */

import { canvas } from "../lib/canvas.js";
import { h, replace } from "../lib/dom.js";
import { problem } from "../lib/problem.js";
import { question } from "./question.js";
import { Subject } from "./subject.js";
import { where } from "./where.js";
import { why } from "./why.js";
import { walk } from "./walk.js";
import { neighbours } from "./neighbours.js";

/**
 * Sections that follow the image and the first of the chosen models. `subjects` in the store is one `Subject` a model.
 */
export function inside(root, store) {
  let subjects = [];
  store.follow(["image", "models", "answers"], async (image, models, answers) => {
    if (!image || !models || !answers?.[0]) {
      replace(root);
      replace(document.getElementById("seen"));
      return;
    }
    for (const one of subjects) one.end();
    const mine = (subjects = models.map((model) => new Subject(image, model)));
    replace(root, h("p", { class: "soft", "aria-busy": "true" }, "Looking inside …"));
    try {
      const described = await Promise.all(mine.map((one) => one.layers()));
      if (mine === subjects) draw(root, store, mine, together(described), answers);
    } catch (error) {
      if (error.name !== "AbortError") replace(root, problem(error));
    }
  });
}

function draw(root, store, subjects, described, answers) {
  const asks = question(store, subjects[0]);
  const panels = h("div", { class: "pair" });
  const places = h("section", { class: "panel", "aria-labelledby": "where-title" });
  const features = h("section", { class: "panel", "aria-labelledby": "why-title" });
  const layers = h("section", { class: "panel", "aria-labelledby": "walk-title" });
  const alike = h("section", { class: "panel", "aria-labelledby": "alike-title" });
  panels.append(places, features);
  replace(root, asks, panels, layers, alike);
  seenAs(document.getElementById("seen"), subjects[0]);
  where(places, store, subjects, described, answers);
  why(features, store, subjects[0], described, answers[0]);
  walk(layers, store, subjects[0], described);
  neighbours(alike, subjects[0], described);
}

/** What is known of the first model, with the methods that explain all of them. */
function together(described) {
  const methods = described[0].methods.filter((name) => described.every((one) => one.methods.includes(name)));
  return { ...described[0], methods, cannot: Object.assign({}, ...described.map(({ cannot }) => cannot)) };
}

/** What the network gets of the image, where that is not the image as it is. */
async function seenAs(root, subject) {
  try {
    const [seen, whole] = await Promise.all([subject.seen(), createImageBitmap(subject.image.blob).catch(() => null)]);
    if (subject.signal.aborted || (whole?.width === seen.width && whole?.height === seen.height)) return;
    const picture = canvas(seen.width, seen.height, "The image in the size that the network takes", (context) => context.drawImage(seen, 0, 0));
    replace(root, picture, h("figcaption", { class: "soft small" }, `What the network sees: ${seen.width} × ${seen.height} pixels`));
  } catch (error) {
    if (error.name !== "AbortError") replace(root, problem(error));
  }
}
