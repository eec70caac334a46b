/** One value's arithmetic: what the kernel covers, times the kernel, summed; the bias; the activation. */

import { mapCanvas, grid } from "../lib/canvas.js";
import { h, replace } from "../lib/dom.js";
import { number, signed } from "../lib/format.js";
import { problem } from "../lib/problem.js";
import { bar } from "./bar.js";

const LISTED = 8;
const WRITTEN = 5;
/** Windows up to this side are written out as numbers; larger ones are drawn. */

export async function unitView(root, subject, layer, channel, [row, column]) {
  const turn = (root.turn = (root.turn ?? 0) + 1);
  root.setAttribute("aria-busy", "true");
  try {
    const reply = await subject.unit(layer.layer, row, column, channel);
    if (turn !== root.turn) return;
    replace(
      root,
      h("h4", {}, "How this value arises"),
      h("p", {}, `Row ${row}, column ${column} of channel ${channel} of ${layer.layer} is `, h("b", { "data-value": reply.value, "data-part": "value" }, number(reply.value, 6)), "."),
      body(reply),
    );
  } catch (error) {
    if (error.name === "AbortError" || turn !== root.turn) return;
    if (error.code === "not_recorded") replace(root, h("p", { class: "soft" }, error.message));
    else replace(root, problem(error));
  } finally {
    if (turn === root.turn) root.removeAttribute("aria-busy");
  }
}

function body(reply) {
  if (reply.channels) return convolution(reply);
  if (reply.kind === "softmax") return softmax(reply);
  if (reply.terms) return dense(reply);
  if (reply.kind === "pooling" || reply.kind === "global pooling") return pooling(reply);
  if (reply.kind === "normalisation") return normalisation(reply);
  if (reply.inputs) return pointwise(reply);
  return null;
}

/** R, K and R ⊙ K of the input channels that count most, and the line in which all of them are added up. */
function convolution(reply) {
  const ranked = [...reply.channels].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum));
  const most = (key) => Math.max(...reply.channels.flatMap((one) => one[key].flat().map(Math.abs)));
  const scales = { input: most("input"), kernel: most("kernel"), product: most("product") };
  const rest = ranked.slice(LISTED).reduce((sum, one) => sum + one.sum, 0);
  const largest = Math.max(Math.abs(rest), ...ranked.map((one) => Math.abs(one.sum)));
  const shown = h("div", { class: "product" });
  const list = h("ol", { class: "terms" });
  const pick = (one) => {
    for (const button of list.querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.dataset.input) === one.channel));
    const matrix = (name, key, colours) => h("figure", {}, numbers(one[key], scales[key], name, colours), h("figcaption", { class: "small soft" }, name));
    replace(shown, matrix("R: what it covers", "input"), sign("⊙"), matrix("K: the kernel", "kernel", "weights"), sign("="), matrix("R ⊙ K", "product"), h("span", { class: "whole" }, sign("→"), h("span", { class: "result" }, signed(one.sum, 5))));
  };
  for (const one of ranked.slice(0, LISTED)) {
    list.append(h("li", {}, h("button", { class: "term", "data-input": one.channel, onclick: () => pick(one) }, h("span", {}, `channel ${one.channel}`), bar(one.sum / largest), h("span", { class: "figure", "data-value": one.sum }, signed(one.sum, 5)))));
  }
  if (ranked.length > LISTED) {
    list.append(h("li", { class: "term plain" }, h("span", {}, `the other ${ranked.length - LISTED}`), bar(rest / largest), h("span", { class: "figure", "data-value": rest, "data-part": "others" }, signed(rest, 5))));
  }
  pick(ranked[0]);
  return [h("p", { class: "soft small" }, `The kernel reads ${reply.channels.length} channels of ${reply.input_layer}. For each, what it covers (R) is multiplied by the kernel (K), place by place, and summed.`), h("div", { class: "bench narrow" }, list, shown), total(reply)];
}

function dense(reply) {
  const ranked = [...reply.terms].sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
  const rest = ranked.slice(LISTED).reduce((sum, one) => sum + one.product, 0);
  const rows = ranked.slice(0, LISTED).map((one) => h("tr", {}, h("th", { scope: "row" }, place(one)), h("td", {}, figure(one.input)), h("td", {}, figure(one.weight)), h("td", {}, signed(one.product, 5))));
  if (ranked.length > LISTED) rows.push(h("tr", {}, h("th", { scope: "row" }, `the other ${ranked.length - LISTED}`), h("td", {}), h("td", {}), h("td", { "data-value": rest, "data-part": "others" }, signed(rest, 5))));
  const head = ["input", "its value", "weight", "product"].map((name) => h("th", { scope: "col" }, name));
  return [h("div", { class: "wide" }, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows))), total(reply)];
}

function place({ channel, row, column }) {
  return row == null ? `channel ${channel}` : `channel ${channel}, row ${row}, column ${column}`;
}

/** sum + bias + rounding = value, and what the activation makes of it. */
function total({ sum, bias, rounding, value, activation }) {
  const small = Math.abs(rounding) > 5e-7 ? [sign("+"), part("rounding", rounding)] : null;
  return h("p", { class: "sum-line" }, part("sum", sum), sign("+"), part("bias", bias ?? 0), small, sign("="), part("value", value), activation ? [sign("→"), part(`after ${activation.function}`, activation.value)] : null);
}

function pooling(reply) {
  const rows = reply.input;
  const scale = Math.max(...rows.flat().map(Math.abs));
  const rule = /max/i.test(reply.function) ? "the largest of these" : "the mean of these";
  return h("div", { class: "product" }, h("figure", {}, numbers(rows, scale, "What the window covers"), h("figcaption", { class: "small soft" }, "what the window covers")), sign("→"), h("span", { class: "result" }, number(reply.value, 6)), h("span", { class: "soft" }, rule));
}

const SIGNS = { Add: "+", Sum: "+", Sub: "−", Mul: "×", Div: "÷" };

/** A value that depends on values in the same place alone, as an activation's does. */
function pointwise({ function: name, inputs, value }) {
  const parts = inputs.map((one) => part(one.layer ?? "a constant", one.value));
  const between = SIGNS[name];
  const line = between ? parts.flatMap((one, index) => (index ? [sign(between), one] : [one])) : name ? [sign(`${name}(`), parts, sign(")")] : parts;
  return h("p", { class: "sum-line" }, line, sign("="), part("value", value));
}

function normalisation({ function: text, input, scale, bias, mean, variance, value }) {
  const rows = Object.entries({ x: input, scale, mean, variance, bias });
  return [h("p", {}, text), h("p", { class: "sum-line" }, rows.map(([name, amount]) => part(name, amount)), sign("→"), part("value", value))];
}

/** The scores, their powers of e, and the share that is this value. */
function softmax({ terms, unit, largest, sum, value }) {
  const ranked = [...terms].sort((a, b) => b.input - a.input).slice(0, LISTED);
  const rows = ranked.map((one) => h("tr", {}, h("th", { scope: "row" }, `channel ${one.channel}`), h("td", {}, figure(one.input)), h("td", {}, figure(one.exponential))));
  const head = ["input", "its value x", `exp(x − ${number(largest, 5)})`].map((name) => h("th", { scope: "col" }, name));
  const own = terms[unit[2]].exponential;
  return [
    h("div", { class: "wide" }, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows))),
    h("p", { class: "sum-line" }, part("its own power", own), sign("÷"), part(`sum of all ${terms.length}`, sum), sign("="), part("value", value)),
  ];
}

function part(name, amount) {
  return h("span", { class: "sum-part" }, h("b", { "data-value": amount, "data-part": name }, number(amount, 6)), h("small", {}, name));
}

/** A small matrix: coloured, with its numbers where they can be read. */
function numbers(rows, scale, name, colours = "values") {
  if (Math.max(rows.length, rows[0].length) > WRITTEN) return mapCanvas(grid(rows), scale, name, colours);
  return h(
    "table",
    { class: "matrix", "aria-label": name },
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((value) => h("td", { class: `${colours} ${value < 0 ? "minus" : ""}`, style: { "--share": scale ? Math.abs(value) / scale : 0 } }, value == null ? "" : number(value, 3)))))),
  );
}

function figure(value) {
  return h("span", { "data-value": value }, number(value, 6));
}

function sign(text) {
  return h("span", { class: "sign" }, text);
}
