/** One channel: its map, the kernel that makes it, what it looks for, and the value that is pointed at. */

import { canvas, mapCanvas, under } from "../lib/canvas.js";
import { h, replace } from "../lib/dom.js";
import { number } from "../lib/format.js";
import { problem } from "../lib/problem.js";
import { features } from "./features.js";
import { field, frame, veil } from "./frame.js";
import { zoom } from "./heat.js";
import { slide } from "./slide.js";
import { unitView } from "./unit.js";

const SIDE = 320;

export function channelView(root, store, subject, layer, maps, channel) {
  if (maps.rows * maps.columns === 1) return scalarView(root, subject, layer, maps, channel);
  const peak = maps.peak(channel);
  const state = { at: null };
  const has = (pair) => pair && pair[0] < maps.rows && pair[1] < maps.columns;
  const seen = h("figure", { class: "seen" });
  const sliding = h("div");
  const known = h("div");
  const arithmetic = h("div", { class: "arithmetic" });
  const readout = h("p", { class: "readout small" });
  const row = spin("unit-row", "row", maps.rows, () => choose());
  const column = spin("unit-column", "column", maps.columns, () => choose());
  const large = output();
  let picture = null;
  let slider = null;

  function output() {
    const factor = Math.max(1, Math.floor(SIDE / Math.max(maps.rows, maps.columns)));
    const small = mapCanvas(maps.channel(channel), maps.largest, "");
    const element = canvas(maps.columns * factor, maps.rows * factor, `Map of channel ${channel}: its strongest value, ${number(peak.value)}, is in row ${peak.row}, column ${peak.column}`, (context) => {
      small.redraw();
      context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
      if (state.at) frame(context, { top: state.at[0], left: state.at[1], height: 1, width: 1 }, factor);
    });
    const move = (event) => {
      const place = under(event, element, maps.columns, maps.rows);
      if (place) point([place.row, place.column]);
    };
    element.addEventListener("pointermove", move);
    element.addEventListener("pointerleave", () => point(chosen()));
    element.addEventListener("click", (event) => {
      const place = under(event, element, maps.columns, maps.rows);
      if (place) store.set("unit", [place.row, place.column]);
    });
    return element;
  }

  const chosen = () => (has(store.get("unit")) ? store.get("unit") : null);

  /** Show where a value comes from, without its arithmetic. */
  function point(at = chosen()) {
    state.at = at;
    large.redraw();
    picture?.redraw();
    slider?.at(at);
    readout.textContent = at ? `row ${at[0]}, column ${at[1]}: ${number(maps.at(channel, ...at), 5)}` : `strongest: ${number(peak.value, 5)} in row ${peak.row}, column ${peak.column}`;
  }

  function choose() {
    store.set("unit", [clamp(row.input, maps.rows), clamp(column.input, maps.columns)]);
  }

  async function draw() {
    try {
      const image = await subject.seen();
      const factor = zoom(image);
      picture = canvas(image.width * factor, image.height * factor, "The image, and on it the part that the value depends on", (context) => {
        context.drawImage(image, 0, 0, context.canvas.width, context.canvas.height);
        if (!state.at || !layer.receptive_field) return;
        const box = field(layer, state.at);
        veil(context, box, factor);
        frame(context, box, factor);
      });
      replace(seen, picture, h("figcaption", { class: "small soft" }, "what the value depends on"));
    } catch (error) {
      if (error.name !== "AbortError") replace(seen, problem(error));
    }
  }

  replace(
    root,
    h("h4", {}, `Channel ${channel}`),
    h(
      "div",
      { class: "bench" },
      h("figure", { class: "map" }, large, h("figcaption", { class: "small soft" }, "its map: click a value")),
      seen,
      h(
        "div",
        {},
        readout,
        h("div", { class: "row" }, row.label, column.label, h("button", { onclick: () => store.set("unit", [peak.row, peak.column]) }, "The strongest")),
        known,
      ),
    ),
    sliding,
    arithmetic,
  );
  point(chosen());
  draw();
  features(known, subject, layer.layer, channel);
  if (layer.has_kernels && layer.kind === "convolution") {
    slide(sliding, subject, layer, maps, channel, point).then((made) => {
      slider = made;
      slider?.at(state.at);
    });
  }

  const ended = new AbortController();
  const end = () => {
    ended.abort();
    slider?.stop();
  };
  for (const name of ["layer", "channel"]) store.addEventListener(name, end, { once: true });
  store.follow(
    "unit",
    () => {
      const at = chosen();
      if (at) {
        row.input.value = at[0];
        column.input.value = at[1];
        unitView(arithmetic, subject, layer, channel, at);
      } else replace(arithmetic);
      point(at);
    },
    AbortSignal.any([subject.signal, ended.signal]),
  );
}

function spin(id, name, size, change) {
  const input = h("input", { id, type: "number", min: 0, max: size - 1, value: 0, onchange: change });
  return { input, label: h("label", { class: "field", for: id }, name, input) };
}

function clamp(input, size) {
  return Math.max(0, Math.min(size - 1, Math.round(Number(input.value)) || 0));
}

/** A channel that is a single value: there is nowhere to point at. */
function scalarView(root, subject, layer, maps, channel) {
  const known = h("div");
  const arithmetic = h("div", { class: "arithmetic" });
  replace(root, h("h4", {}, title(subject, maps, channel)), known, arithmetic);
  features(known, subject, layer.layer, channel);
  unitView(arithmetic, subject, layer, channel, [0, 0]);
}

/** A channel's number, and the class that it stands for in layers that have one a class. */
function title({ model }, maps, channel) {
  const isClass = maps.rows * maps.columns === 1 && maps.channels === model.labels.length;
  return isClass ? `Channel ${channel}: ${model.labels[channel]}` : `Channel ${channel}`;
}
