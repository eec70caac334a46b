/** Where the answer comes from: a heat map by one of several methods, with what each of them can tell and cannot. */

import { under } from "../lib/canvas.js";
import { h, replace } from "../lib/dom.js";
import { milliseconds, number, signed } from "../lib/format.js";
import * as keys from "../lib/keys.js";
import { problem } from "../lib/problem.js";
import { recording } from "../lib/recording.js";
import { title } from "../models/chooser.js";
import { blockAt, heat, zoom } from "./heat.js";

const METHODS = {
  occlusion: "Cover it up (occlusion)",
  integrated_gradients: "Integrated gradients",
  gradient_activation: "Gradient × activation",
  contributions: "Last layer, by position",
};
/** The parameter by which each method can be told apart from how it is usually run. */
const CHOICES = {
  occlusion: { name: "fill", label: "covered with", values: ["grey", "black", "white", "mean", "blur"] },
  integrated_gradients: { name: "baseline", label: "starting from", values: ["blur", "black", "white", "grey", "mean"] },
};
/** A map whose largest value is a smaller share of the score than this is not drawn: it would be noise, stretched. */
const NOTHING = 0.002;
const MOST_NUMBERS = 64 * 64;

export function where(root, store, subjects, described, answers) {
  const { signal } = subjects[0];
  const usable = Object.keys(METHODS).filter((name) => described.methods.includes(name));
  const options = { strength: 0.75 };
  const state = { method: usable.includes(store.get("method")) ? store.get("method") : usable[0], choice: null, layer: null };
  const stages = subjects.map(() => h("div", { class: "heat" }));
  const notes = h("div");
  const extra = h("span", { class: "row" });
  const slider = h("input", {
    id: "strength",
    type: "range",
    min: 0,
    max: 100,
    value: options.strength * 100,
    oninput: (event) => {
      options.strength = event.target.value / 100;
      for (const one of root.querySelectorAll(".heat > figure canvas")) one.redraw();
    },
  });
  const method = h("select", { id: "method", onchange: (event) => choose(event.target.value) }, Object.entries(METHODS).map(option));

  function option([name, label]) {
    return h("option", { value: name, disabled: !usable.includes(name) }, label);
  }

  /** Why some methods cannot be chosen: each reason once, with those that it keeps away. */
  function barred() {
    const names = Object.keys(METHODS).filter((name) => !usable.includes(name));
    const reasons = Map.groupBy(names, (name) => described.cannot?.[name] ?? "not for this model");
    return [...reasons].map(([reason, list]) => h("p", { class: "soft small" }, `Not here: ${list.map((name) => METHODS[name]).join(", ")} (${reason}).`));
  }

  function choose(name) {
    Object.assign(state, { method: name, choice: null, layer: null });
    store.set("method", name);
    method.value = name;
    further();
    ask();
  }

  function further() {
    const choice = CHOICES[state.method];
    const change = (key) => (event) => {
      state[key] = event.target.value || null;
      ask();
    };
    const layers = described.layers.filter(({ kind, output }) => kind === "activation" && output?.[0] > 1);
    if (recording) return;
    replace(
      extra,
      choice
        ? h("label", { class: "field" }, choice.label, h("select", { id: "choice", onchange: change("choice") }, choice.values.map((value) => h("option", {}, value))))
        : null,
      state.method === "gradient_activation"
        ? h("label", { class: "field" }, "at", h("select", { id: "at-layer", onchange: change("layer") }, h("option", { value: "" }, "the usual layer"), layers.map(({ layer }) => h("option", {}, layer))))
        : null,
    );
  }

  /** The question in a model's own classes; one that does not know the class is asked about its own answer. */
  function query(place) {
    const own = (index) => (index == null ? -1 : subjects[place].model.labels.indexOf(subjects[0].model.labels[index]));
    const [target, against] = [own(store.get("class")), own(store.get("against"))];
    const choice = state.choice ? { [CHOICES[state.method].name]: state.choice } : {};
    const classes = target < 0 ? { class: answers[place]?.index } : { class: target, against: against < 0 ? null : against };
    return { method: state.method, layer: state.layer, ...classes, ...choice };
  }

  let turns = 0;
  async function ask() {
    const turn = ++turns;
    for (const stage of stages) stage.setAttribute("aria-busy", "true");
    await Promise.all(
      subjects.map(async (subject, place) => {
        const stage = stages[place];
        try {
          const [image, reply] = await Promise.all([subject.seen(), subject.explain(query(place))]);
          if (turn !== turns) return;
          replace(stage, subjects.length > 1 ? h("h3", {}, `${title(subject.model)}: ${asked(reply)}`) : null, drawing(image, reply, options));
          if (place === 0) replace(notes, told(reply));
        } catch (error) {
          if (error.name === "AbortError" || turn !== turns) return;
          replace(stage, problem(error, ask));
        } finally {
          if (turn === turns) stage.removeAttribute("aria-busy");
        }
      }),
    );
  }

  replace(
    root,
    h("h3", { id: "where-title", class: "title" }, "Where in the image?"),
    usable.length
      ? [
          h("div", { class: "row" }, h("label", { class: "field" }, h("span", {}, "Method"), method), extra),
          h("div", { class: "stages" }, stages),
          h("label", { class: "field slider", for: "strength" }, h("span", {}, "image"), slider, h("span", {}, "map")),
          notes,
          barred(),
        ]
      : h("p", {}, "No method can draw a heat map of this model."),
  );
  if (!usable.length) return;
  method.value = state.method;
  further();
  store.follow(["class", "against"], (index) => index != null && ask(), signal);
  keys.on("m", "next method of the heat map", () => choose(usable[(usable.indexOf(state.method) + 1) % usable.length]));
}

/** The map on the image; beside it what speaks for the class and what against it, each alone. */
function drawing(image, reply, options) {
  const { map } = reply;
  const name = asked(reply);
  if (!map || map.scale <= NOTHING * Math.max(1, Math.abs(reply.score))) {
    return h("p", { class: "notice" }, `There is nothing to see: the largest value is ${number(map?.scale ?? 0)}, of a score of ${number(reply.score)}.`);
  }
  const readout = h("p", { class: "readout small", "aria-live": "off" }, "Point at the map to read its values.");
  const large = heat(image, map, options, `Heat map of ${name} on the image. ${summary(map)}`);
  const show = (event) => {
    const at = under(event, large, image.width, image.height);
    const block = at && blockAt(map, at.row, at.column);
    if (block) readout.textContent = `pixel row ${at.row}, column ${at.column}: ${signed(block.value, 4)}`;
  };
  large.addEventListener("pointermove", show);
  large.addEventListener("pointerdown", show);
  const full = { strength: 1 };
  const total = map.values.flat();
  // patches overlap: what covering them takes away does not add up, so there the strongest is told instead of the sum
  const part = (sign) => {
    const values = total.filter((value) => value * sign > 0);
    return reply.occlusion ? sign * Math.max(0, ...values.map(Math.abs)) : values.reduce((sum, value) => sum + value, 0);
  };
  const told = reply.occlusion ? "at most" : "in all";
  return [
    h("figure", {}, large),
    readout,
    legend(map.scale),
    h(
      "div",
      { class: "halves" },
      h("figure", {}, heat(image, map, full, "What speaks for it", 1), h("figcaption", {}, `for it, ${told} `, h("b", {}, signed(part(1))))),
      h("figure", {}, heat(image, map, full, "What speaks against it", -1), h("figcaption", {}, `against it, ${told} `, h("b", {}, signed(part(-1))))),
    ),
    numbers(map),
  ];
}

function summary({ values, scale }) {
  const flat = values.flat();
  const most = flat.indexOf(Math.max(...flat));
  const columns = values[0].length;
  return `Strongest for it in row ${Math.floor(most / columns) + 1} of ${values.length}, column ${(most % columns) + 1} of ${columns}; full colour is ${number(scale)}.`;
}

/** What the colours mean, and over what they are scaled. */
export function legend(scale, of = "this map's largest value") {
  return h(
    "div",
    { class: "legend", "data-value": scale },
    h("span", {}, signed(-scale, 3)),
    h("span", { class: "ramp", "aria-hidden": "true" }),
    h("span", {}, signed(scale, 3)),
    h("span", { class: "soft" }, `full colour: ${of}`),
  );
}

function numbers({ values }) {
  if (values.flat().length > MOST_NUMBERS) return null;
  const table = () => h("table", { class: "numbers" }, h("tbody", {}, values.map((row) => h("tr", {}, row.map((value) => h("td", {}, signed(value, 3)))))));
  const box = h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "The map's values" });
  const details = h("details", { class: "small" }, h("summary", {}, `The numbers (${values.length} × ${values[0].length})`), box);
  details.addEventListener("toggle", () => replace(box, details.open ? table() : null));
  return details;
}

function asked({ class: one, against }) {
  return against ? `${one.label} against ${against.label}` : one.label;
}

/** What the method can tell, what it cannot, and how exact it was here. */
function told(reply) {
  const { occlusion, integrated_gradients: gradients, gradient_activation: activation, contributions } = reply;
  const facts = [
    `The score of ${asked(reply)} is ${number(reply.score)} (${reply.against ? "a difference of logits" : "a logit"}).`,
    occlusion ? `Covered ${occlusion.passes} times, ${occlusion.patch.join(" × ")} pixels, with ${occlusion.fill}: a block's value is what the score lost, spread where covers overlap.` : null,
    gradients ? `${gradients.steps} steps from ${gradients.baseline}, where the score is ${number(gradients.baseline_score)}. The map's sum misses the difference by ${number(gradients.delta)}.` : null,
    activation ? `At ${activation.layer}. The map's sum is ${number(activation.sum)}; ${number(activation.rest)} of the score is not in it.` : null,
    contributions ? `The positions of ${contributions.layer} add up to ${number(contributions.sum)}; the bias adds ${number(contributions.bias)}.` : null,
    reply.logit_difference > 0 ? `The served model is int8; its float32 twin was asked, whose logits differ by ${number(reply.logit_difference)} at most.` : null,
    `It took ${milliseconds(reply.seconds * 1000)}.`,
  ];
  return h(
    "div",
    { class: "told" },
    h("p", {}, h("b", {}, "It tells: "), reply.tells),
    h("p", {}, h("b", {}, "It does not tell: "), reply.limits),
    h("p", { class: "soft small" }, facts.filter(Boolean).join(" ")),
  );
}
