/** A model's card: how good it is, what it takes for what, and where it comes from. */

import { h, replace } from "../lib/dom.js";
import { bytes, count, many, milliseconds, percent } from "../lib/format.js";
import { problem } from "../lib/problem.js";
import { title } from "./chooser.js";
import { cardOf } from "./read.js";

export function mount(root, store) {
  store.follow("models", async (models) => {
    if (!models) return;
    const sections = models.map(() => h("section", { class: "card" }));
    replace(root, sections);
    models.forEach((model, index) => fill(sections[index], model));
  });
}

async function fill(root, model) {
  try {
    const card = await cardOf(model);
    replace(root, h("h1", {}, title(model)), about(card), warning(card), tiles(card), classes(card), confusion(card), corrupted(card), doubts(card), origin(card));
  } catch (error) {
    replace(root, problem(error, () => fill(root, model)));
  }
}

function about({ labels, width, height, resize_mode: mode }) {
  const shape = {
    crop: "What is not of that shape loses its edges: the centre counts.",
    squash: "What is not of that shape is stretched to it.",
    letterbox: "What is not of that shape gets black bars.",
  }[mode];
  return h("p", { class: "lead" }, `Sorts images of ${width} × ${height} pixels into ${labels.length} classes. `, shape);
}

function warning({ accuracy, labels }) {
  if (accuracy.above_chance !== false) return null;
  return h("p", { class: "notice" }, `On the test images this model is not better than guessing among its ${labels.length} classes.`);
}

function tiles({ accuracy, cost, training }) {
  const interval = accuracy.interval ? ` (${accuracy.interval.map((one) => percent(one)).join(" to ")})` : "";
  const all = [
    accuracy.accuracy == null ? null : [percent(accuracy.accuracy), `of ${count(accuracy.images ?? 0)} ${accuracy.split ?? "test"} images right${interval}`],
    accuracy.calibration_error == null
      ? null
      : [percent(accuracy.calibration_error), `is how far the stated probability is off on average${accuracy.uncalibrated_error == null ? "" : `; ${percent(accuracy.uncalibrated_error)} before calibration`}`],
    cost.latency_ms == null ? null : [milliseconds(cost.latency_ms), `for one image on one thread, ${cost.dtype ?? ""}`],
    cost.bytes == null ? null : [bytes(cost.bytes), cost.parameters == null ? "" : `${count(cost.parameters)} parameters, ${count(cost.multiply_adds ?? 0)} multiply-adds an image`],
    training.recipe == null ? null : [training.recipe, `recipe${training.epochs == null ? "" : `, ${many(training.epochs, "epoch")}`}`],
  ];
  return h("div", { class: "tiles" }, all.filter(Boolean).map(([big, small]) => h("div", { class: "tile" }, h("b", {}, big), small)));
}

function classes({ labels, accuracy }) {
  const shares = accuracy.per_class;
  if (!Object.keys(shares ?? {}).length) return null;
  return [
    h("h2", {}, "Class by class"),
    h("p", { class: "soft" }, "Of the test images of each class, the share that is answered right."),
    ranked(labels.filter((label) => shares[label] != null).map((label) => [label, shares[label]])),
  ];
}

function corrupted({ accuracy: { corruptions } }) {
  if (!corruptions) return null;
  return [
    h("h2", {}, "On damaged images"),
    h("p", { class: "soft" }, `Accuracy on ${count(corruptions.images)} ${corruptions.split} images, and on the same images after each kind of damage.`),
    ranked(Object.entries(corruptions.accuracy)),
  ];
}

/** Names and their shares as bars, the largest first. */
function ranked(pairs) {
  const row = ([name, share]) =>
    h("li", { class: "still-bar" }, h("span", { class: "name" }, name), h("span", { class: "bar", style: { "--share": share } }), h("span", { class: "figure" }, percent(share)));
  return h("ol", { class: "bars still" }, pairs.sort(([, a], [, b]) => b - a).map(row));
}

const LARGEST_TABLE = 30;

function confusion({ labels, accuracy }) {
  const matrix = accuracy.confusion;
  if (!matrix?.length || labels.length > LARGEST_TABLE) return null;
  const most = Math.max(1, ...matrix.flatMap((row, i) => row.filter((_, j) => i !== j)));
  const cell = (value, i, j) =>
    h("td", { class: i === j ? "right" : null, style: { "--share": i === j ? 1 : value / most } }, value ? count(value) : "");
  return [
    h("h2", {}, "What it takes for what"),
    h("p", { class: "soft" }, "A row is what an image shows, a column what was answered. Blue is right; the stronger the orange, the more often that mistake."),
    h(
      "div",
      { class: "wide", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
      h(
        "table",
        { class: "confusion" },
        h("thead", {}, h("tr", {}, h("td", {}), labels.map((label) => h("th", { scope: "col" }, label)))),
        h("tbody", {}, matrix.map((row, i) => h("tr", {}, h("th", { scope: "row" }, labels[i]), row.map((value, j) => cell(value, i, j))))),
      ),
    ),
  ];
}

function doubts({ unsure_below: threshold, accuracy }) {
  if (!threshold || !accuracy.unsure) return null;
  const { right, wrong, unknown = {} } = accuracy.unsure;
  const rows = [
    ["right answers", right],
    ["wrong answers", wrong],
    ...Object.entries(unknown).map(([name, share]) => [`images of nothing it knows: ${name}`, share]),
  ].filter(([, share]) => share != null);
  return [
    h("h2", {}, "When it says “unsure”"),
    h("p", { class: "soft" }, `An answer below ${percent(threshold)} is marked. Marked are, of`),
    h("table", {}, h("tbody", {}, rows.map(([what, share]) => h("tr", {}, h("th", { scope: "row" }, what), h("td", {}, percent(share)))))),
  ];
}

function origin({ created, data, training, cost }) {
  const split = ["train", "validation", "test"].filter((name) => data[name] != null).map((name) => `${count(data[name])} ${name}`);
  const facts = [
    ["made", created?.slice(0, 10)],
    ["images", [data.name, split.join(", ")].filter(Boolean).join(": ")],
    ["checksum", data.checksum],
    ["command", training.command],
    ["seed", training.seed],
    ["trained in", training.seconds == null ? null : `${(training.seconds / 60).toFixed(0)} minutes, ${training.precision ?? ""}`],
    ["on", training.hardware],
    ["measured on", cost.hardware],
    ["commit", training.commit],
    ["with", training.versions && Object.entries(training.versions).map((pair) => pair.join(" ")).join(", ")],
  ].filter(([, value]) => value != null && value !== "");
  return [
    h("h2", {}, "Where it comes from"),
    h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, name === "command" ? h("code", {}, value) : String(value))])),
  ];
}
