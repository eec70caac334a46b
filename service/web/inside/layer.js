/** One layer: what it does, and the maps that it makes of the image. */

import { mapCanvas } from "../lib/canvas.js";
import { h, replace } from "../lib/dom.js";
import { count, number } from "../lib/format.js";
import { problem } from "../lib/problem.js";
import { bar } from "./bar.js";
import { channelView } from "./channel.js";
import { legend } from "./where.js";

const SHOWN = 64;
/** Channels that are drawn before one asks for all. */

const DOES = {
  convolution: "Slides a kernel over its input: each value is a weighted sum of what the kernel covers.",
  pooling: "Keeps one value of each window.",
  "global pooling": "Keeps one value of each map, wherever it is.",
  dense: "Each value is a weighted sum of all that comes in.",
  activation: "Bends each value by itself; without that, all layers would be no more than one.",
  normalisation: "Shifts and scales each channel by numbers that training left.",
  sum: "Adds what two ways through the network made.",
  scaling: "Multiplies by numbers that training left, or adds them.",
  concatenation: "Lays maps side by side.",
  reshape: "Puts the same values into another form.",
  softmax: "Turns scores into probabilities that sum to one.",
};

export async function layerView(root, store, subject, layer) {
  const body = h("div", { "aria-busy": "true" });
  replace(root, h("h4", { class: "layer-name" }, layer.layer, h("span", { class: "soft" }, ` ${layer.kind}`)), DOES[layer.kind] ? h("p", {}, DOES[layer.kind]) : null, facts(layer), body);
  const current = () => !subject.signal.aborted && store.get("layer") === layer.layer;
  try {
    const maps = await subject.maps(layer.layer);
    if (!current()) return;
    replace(body, maps.rows * maps.columns > 1 ? sheet(store, maps) : values(store, maps, subject.model.labels));
    const detail = h("div", { class: "channel" });
    body.append(detail);
    const shown = new AbortController();
    const show = (channel) => {
      if (!current()) shown.abort();
      else if (channel == null || channel >= maps.channels) replace(detail);
      else channelView(detail, store, subject, layer, maps, channel);
    };
    store.addEventListener("layer", () => shown.abort(), { once: true });
    store.follow("channel", show, AbortSignal.any([subject.signal, shown.signal]));
  } catch (error) {
    if (error.name !== "AbortError" && current()) replace(body, problem(error, () => layerView(root, store, subject, layer)));
  } finally {
    body.removeAttribute("aria-busy");
  }
}

function facts(layer) {
  const { kernel, stride, padding, groups, receptive_field: field, size, input, output, parameters, multiply_adds: products } = layer;
  const square = (pair) => pair.join(" × ");
  const rows = [
    ["shape", input && output ? `${square(input)} → ${square(output)}` : null],
    ["kernel", kernel ? `${square(kernel)}, stride ${new Set(stride).size === 1 ? stride[0] : square(stride)}, padding ${new Set(padding).size === 1 ? padding[0] : padding.join(", ")}${groups > 1 ? `, ${groups} groups` : ""}` : null],
    ["output's side", size ? (size.rows === size.columns ? size.rows : `${size.rows}; ${size.columns}`) : null],
    ["receptive field", field ? `${square(field)} pixels of the image count for one value` : null],
    ["parameters", parameters ? count(parameters) : null],
    ["multiply-adds", products ? count(products) : null],
  ];
  return h("dl", { class: "facts small" }, rows.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", { "data-fact": name }, value)]));
}

/** All channels as small maps on one scale. */
function sheet(store, maps) {
  const order = [...Array(maps.channels).keys()];
  const peaks = order.map((channel) => Math.abs(maps.peak(channel).value));
  const state = { strongest: true, all: maps.channels <= SHOWN, own: false };
  const list = h("ul", { class: "maps" });
  const more = h("button", { onclick: () => ((state.all = true), draw()) }, `Show all ${maps.channels}`);
  const note = h("div");
  const draw = () => {
    const sorted = state.strongest ? order.toSorted((a, b) => peaks[b] - peaks[a]) : order;
    const some = state.all ? sorted : sorted.slice(0, SHOWN);
    replace(list, some.map((channel) => tile(store, maps, channel, state.own ? peaks[channel] : maps.largest)));
    more.hidden = state.all;
    replace(note, state.own ? h("p", { class: "soft small" }, "Each map has a scale of its own: compare places within a map, not maps with each other.") : legend(maps.largest, "the layer's largest value"));
    press();
  };
  const press = () => {
    for (const button of list.querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.dataset.channel) === store.get("channel")));
  };
  store.addEventListener("channel", press);
  draw();
  const check = (label, key) => h("label", { class: "check small" }, h("input", { type: "checkbox", checked: state[key], onchange: (event) => ((state[key] = event.target.checked), draw()) }), ` ${label}`);
  return [h("div", { class: "row" }, h("span", { class: "soft small" }, `${maps.channels} channels`), check("strongest first", "strongest"), check("each on its own scale", "own")), note, list, more];
}

function tile(store, maps, channel, scale) {
  const open = () => {
    store.set("unit", null);
    store.set("channel", channel);
  };
  return h("li", {}, h("button", { "data-channel": channel, onclick: open, "aria-label": `Channel ${channel}` }, mapCanvas(maps.channel(channel), scale, "")));
}

/** A layer without maps: a value a channel, as bars. */
function values(store, maps, labels) {
  const named = maps.channels === labels.length;
  const ranked = [...Array(maps.channels).keys()].sort((a, b) => Math.abs(maps.at(b, 0, 0)) - Math.abs(maps.at(a, 0, 0)));
  const open = (channel) => () => {
    store.set("unit", [0, 0]);
    store.set("channel", channel);
  };
  const rows = ranked.slice(0, 24).map((channel) => {
    const value = maps.at(channel, 0, 0);
    return h(
      "li",
      {},
      h("button", { class: "value-row", "data-channel": channel, onclick: open(channel) }, h("span", {}, named ? labels[channel] : `channel ${channel}`), bar(maps.largest ? value / maps.largest : 0), h("span", { class: "figure", "data-value": value }, number(value, 5))),
    );
  });
  return [h("ol", { class: "value-list" }, rows), maps.channels > rows.length ? h("p", { class: "soft small" }, `The ${rows.length} largest of ${maps.channels}.`) : null];
}
