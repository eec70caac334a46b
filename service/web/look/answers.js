/** The answer of each chosen model, side by side. */

import { announce, h, replace } from "../lib/dom.js";
import { json } from "../lib/api.js";
import { milliseconds, percent } from "../lib/format.js";
import { problem } from "../lib/problem.js";
import { recording } from "../lib/recording.js";
import { title } from "../models/chooser.js";
import { cardOf } from "../models/read.js";

const ALL_UP_TO = 20;
/** Classes that are listed of a model that has more than `ALL_UP_TO`. */
const LISTED = 10;

/**
 * Ask again whenever the image or the models change. `answers` in the store is what came, `null` while it is awaited.
 */
export function answers(root, store) {
  let running = new AbortController();
  store.follow(["image", "models"], async (image, models) => {
    if (!image || !models) return;
    running.abort();
    running = new AbortController();
    const { signal } = running;
    store.set("answers", null);
    const columns = models.map(() => h("article", { class: "answer", "aria-busy": "true" }));
    replace(root, columns);
    const found = await Promise.all(models.map((model, index) => column(columns[index], model, image, store, signal)));
    if (signal.aborted) return;
    if (found[0]) store.set("class", found[0].index);
    store.set("answers", found);
    const said = found.filter(Boolean).map((one) => `${one.label}, ${percent(one.probability)}`);
    if (said.length) announce(said.join("; "));
  });
}

async function column(root, model, image, store, signal) {
  const again = () => column(root, model, image, store, signal);
  try {
    const start = performance.now();
    const top = model.labels.length > ALL_UP_TO ? LISTED : model.labels.length;
    const answer = await json("predict", {
      query: { model: model.name, version: model.version, top_k: top },
      body: image.blob,
      signal,
    });
    const took = performance.now() - start;
    const card = await cardOf(model, signal);
    replace(root, answered(answer, model, card, took, store, signal));
    return answer;
  } catch (error) {
    if (error.name === "AbortError") return null;
    replace(root, h("p", { class: "soft small" }, title(model)), problem(error, again));
    return null;
  } finally {
    root.removeAttribute("aria-busy");
  }
}

function answered(answer, model, card, took, store, signal) {
  const rest = model.labels.length - answer.top.length;
  return [
    h("p", { class: "soft small" }, recording ? title(model) : `${title(model)} · ${milliseconds(took)} there and back`),
    h(
      "h1",
      { class: "verdict" },
      h("span", { class: "label" }, answer.label),
      " ",
      h("span", { class: "probability", "data-value": answer.probability }, percent(answer.probability)),
      answer.unsure ? [" ", h("span", { class: "badge" }, "unsure")] : null,
    ),
    answer.unsure ? h("p", {}, doubt(card)) : null,
    bars(answer, store, signal),
    rest > 0 ? h("p", { class: "soft small" }, `and ${rest} more classes`) : null,
    h("p", { class: "soft small" }, honesty(card)),
  ];
}

/** The classes, likeliest first; each is a button that makes it the class which is explained below. */
function bars(answer, store, signal) {
  const list = h("ol", { class: "bars" });
  for (const { label, index, probability } of answer.top) {
    const bar = h("span", { class: "bar", "aria-hidden": "true", style: { "--share": probability } });
    const button = h(
      "button",
      { "data-class": index, disabled: recording ? !recording.classes.includes(index) : false, onclick: () => store.set("class", index) },
      h("span", { class: "name" }, label),
      bar,
      h("span", { class: "figure", "data-value": probability }, percent(probability)),
    );
    list.append(h("li", {}, button));
  }
  store.follow("class", (chosen) => {
    for (const button of list.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.class) === (chosen ?? answer.index)));
    }
  }, signal);
  return list;
}

function doubt(card) {
  return `Its probability is below ${percent(card.unsure_below)}, this model's threshold. The image may show nothing that the model knows.`;
}

function honesty(card) {
  const error = card.accuracy.calibration_error;
  if (error == null) return "The probability has not been checked against test images.";
  return `On test images the stated probability was off by ${percent(error)} on average. For images unlike those it was trained on, nobody knows.`;
}
