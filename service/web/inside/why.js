/** By which features: what each channel of the last layer adds to the answer, and the answer without it. */

import { mapCanvas } from "../lib/canvas.js";
import { h, replace } from "../lib/dom.js";
import { percent, signed } from "../lib/format.js";
import { problem } from "../lib/problem.js";
import { recording } from "../lib/recording.js";
import { bar } from "./bar.js";

const TOP = 8;

export function why(root, store, subject, described, answer) {
  const { signal } = subject;
  const off = new Set();
  const body = h("div");
  replace(
    root,
    h("h3", { id: "why-title", class: "title" }, "By which features?"),
    described.methods.includes("contributions")
      ? [h("p", { class: "soft" }, "The last layer looks for features, one a channel. What each adds to the score is exact: the parts sum to it."), body]
      : h("p", {}, described.cannot?.contributions ?? "This model's last layer is not of a kind whose parts add up."),
  );
  if (!described.methods.includes("contributions")) return;

  let asked = 0;
  async function ask() {
    const turn = ++asked;
    body.setAttribute("aria-busy", "true");
    const query = { method: "contributions", class: store.get("class"), against: store.get("against"), top: TOP };
    if (off.size) query.without = [...off].join(",");
    try {
      const reply = await subject.explain(query);
      const maps = await subject.maps(reply.contributions.layer);
      if (turn === asked) show(reply, maps);
    } catch (error) {
      if (error.name !== "AbortError" && turn === asked) replace(body, problem(error, ask));
    } finally {
      if (turn === asked) body.removeAttribute("aria-busy");
    }
  }

  function show(reply, maps) {
    const { contributions: found } = reply;
    const focused = body.contains(document.activeElement) ? document.activeElement.id : "";
    const others = found.others.value;
    const largest = Math.max(...found.channels.map(({ value }) => Math.abs(value)));
    const plain = (name, value, text) => h("li", { class: "part plain" }, h("span", {}), h("span", {}, name), h("span", {}), h("span", { class: "figure", "data-value": value, "data-part": text }, signed(value, 3)), h("span", {}));
    replace(
      body,
      h(
        "ol",
        { class: "parts" },
        found.channels.map((channel) => row(channel, reply, maps, largest)),
        found.others.count ? plain(`the other ${found.others.count}`, others, "others") : null,
        found.bias ? plain("bias", found.bias, "bias") : null,
        Math.abs(found.rounding) > 5e-7 ? plain("rounding", found.rounding, "rounding") : null,
        h("li", { class: "part sum" }, h("span", {}), h("span", {}, "score"), h("span", {}, reply.against ? `${reply.class.label} less ${reply.against.label}` : `logit of ${reply.class.label}`), h("span", { class: "figure", "data-value": reply.score, "data-part": "score" }, signed(reply.score, 3)), h("span", {})),
      ),
      found.without ? ablated(found.without) : recording ? null : h("p", { class: "soft small" }, "Switch a channel off to see the answer that the network gives without it."),
    );
    if (focused) document.getElementById(focused)?.focus();
  }

  function row({ channel, value, supports, without }, reply, maps, largest) {
    const { layer } = reply.contributions;
    const name = `channel ${channel}`;
    const toggle = () => {
      if (!off.delete(channel)) off.add(channel);
      ask();
    };
    const same = without.label === reply.class.label;
    const effect = `Without it: ${same ? "" : `${without.label}; `}${reply.class.label} ${percent(without.probability)}.`;
    const helps = supports?.length ? ` Adds most to ${supports.map((one) => `${one.label} ${signed(one.value)}`).join(", ")}.` : "";
    return h(
      "li",
      { class: off.has(channel) ? "part off" : "part", "data-channel": channel },
      mapCanvas(maps.channel(channel), maps.largest, ""),
      h("button", { class: "link", onclick: () => open(layer, channel), "aria-describedby": `part-${channel}` }, name),
      bar(value / largest),
      h("span", { class: "figure", "data-value": value }, signed(value, 3)),
      recording ? h("span") : h("label", { class: "check small" }, h("input", { id: `off-${channel}`, type: "checkbox", checked: off.has(channel), onchange: toggle, "aria-label": `Switch ${name} off` }), " off"),
      h("span", { class: "soft small effect", id: `part-${channel}` }, effect, helps),
    );
  }

  function ablated({ channels, label, probability, probabilities }) {
    const own = probabilities?.[answer.index];
    const names = channels.map((one) => `channel ${one}`).join(", ");
    return h(
      "p",
      { class: "ablated", role: "status" },
      `Without ${names} the network answers `,
      h("b", {}, label),
      ` (${percent(probabilities ? Math.max(...probabilities) : probability)}); `,
      own == null ? null : [`${answer.label} falls from ${percent(answer.probability)} to `.replace("falls", own > answer.probability ? "rises" : "falls"), h("span", { "data-value": own, "data-part": "ablated" }, percent(own)), "."],
    );
  }

  function open(layer, channel) {
    store.set("unit", null);
    store.set("channel", channel);
    store.set("layer", layer);
    document.getElementById("walk-title").scrollIntoView({ behavior: "instant", block: "start" });
  }

  store.follow(["class", "against"], (index) => index != null && ask(), signal);
}
