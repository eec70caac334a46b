/** A walk through the network, from pixels to probabilities: its layers in a row, and the one that is looked at. */

import { h, replace } from "../lib/dom.js";
import { count } from "../lib/format.js";
import * as keys from "../lib/keys.js";
import { remember } from "./address.js";
import { layerView } from "./layer.js";

export function walk(root, store, subject, described) {
  const { layers } = described;
  const strip = h("ol", { class: "strip" });
  const detail = h("div", { class: "layer" });
  const largest = Math.max(...layers.map(({ output }) => output?.[0] ?? 1), described.input[0]);
  const buttons = new Map();
  for (const layer of layers) {
    const button = h(
      "button",
      { "data-layer": layer.layer, onclick: () => go(layer) },
      box(layer, largest),
      h("b", {}, layer.layer),
      h("span", { class: "soft small" }, layer.activation && layer.kind === "activation" ? layer.activation : layer.kind),
      h("span", { class: "soft small" }, layer.output ? layer.output.join("×") : ""),
    );
    buttons.set(layer.layer, button);
    strip.append(h("li", {}, button));
  }
  replace(
    root,
    h("h3", { id: "walk-title", class: "title" }, "Through the network"),
    h("p", { class: "soft" }, `From ${described.input.join(" × ")} values of pixels to the answer: ${layers.length} layers, ${count(described.totals.parameters)} parameters, ${count(described.totals.multiply_adds)} multiply-adds. A block is as high as its layer's maps and as wide as it has channels.`),
    h("div", { class: "wide" }, strip),
    detail,
  );

  function go(layer) {
    store.set("unit", null);
    store.set("channel", null);
    store.set("layer", layer.layer);
  }

  function step(by) {
    const at = layers.findIndex(({ layer }) => layer === store.get("layer"));
    const next = layers[Math.max(0, Math.min(layers.length - 1, at + by))];
    go(next);
    buttons.get(next.layer).focus();
  }

  const show = (name) => {
    const layer = layers.find((one) => one.layer === name);
    for (const [one, button] of buttons) button.setAttribute("aria-pressed", String(one === name));
    const button = buttons.get(name);
    if (button) strip.parentElement.scrollTo({ left: button.offsetLeft - strip.parentElement.clientWidth / 2, behavior: "instant" });
    if (layer) layerView(detail, store, subject, layer);
    else replace(detail);
  };
  begin(store, layers);
  store.follow("layer", show, subject.signal);
  store.follow(["layer", "channel", "unit"], () => remember(store, subject.model), subject.signal);
  keys.on("[", "a layer back", () => step(-1));
  keys.on("]", "a layer on", () => step(1));
}

/** What is shown first: what the address names, what was shown before, else the first convolution. */
function begin(store, layers) {
  const has = (name) => layers.some(({ layer }) => layer === name);
  const address = store.get("address");
  if (has(address.get("layer")) && !store.get("walked")) {
    store.set("layer", address.get("layer"));
    store.set("channel", address.has("channel") ? Number(address.get("channel")) : null);
    store.set("unit", address.get("unit")?.split(",").map(Number) ?? null);
  } else if (!has(store.get("layer"))) {
    store.set("channel", null);
    store.set("unit", null);
    store.set("layer", (layers.find(({ kind }) => kind === "convolution") ?? layers[0]).layer);
  }
  store.set("walked", true);
}

/** A layer's output as a block: its height from its maps' side, its width from the number of channels. */
function box({ output, kind }, largest) {
  const [rows, , channels] = output ?? [1, 1, 1];
  const high = 8 + 56 * Math.sqrt(rows / largest);
  const wide = 6 + 5 * Math.log2(1 + channels);
  return h("span", { class: `block ${kind.replace(" ", "-")}`, "aria-hidden": "true" }, h("span", { style: { height: `${high}px`, width: `${wide}px` } }));
}
