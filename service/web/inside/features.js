/** What a channel looks for: training images first, made ones second, each called what it is. */

import { h, replace } from "../lib/dom.js";
import { number, percent } from "../lib/format.js";
import { problem } from "../lib/problem.js";

/** Images by their thumbnails, or by their names where none is kept. */
export function examples(list, value) {
  return h(
    "ul",
    { class: "thumbs" },
    list.map((one) => {
      const name = one.file ?? `image ${one.index}`;
      return h(
        "li",
        {},
        one.thumbnail ? h("img", { src: one.thumbnail, alt: name }) : h("span", { class: "nameless" }, name),
        one.label == null ? null : h("b", {}, one.label),
        h("span", { class: "soft small" }, value(one)),
      );
    }),
  );
}

/** Fill `root` with what is known of a channel. */
export async function features(root, subject, layer, channel) {
  const { stored, cannot } = await subject.layers();
  if (!stored?.features.includes(layer)) {
    const why = stored?.features.length ? `What its channels look for is kept of ${stored.features.join(", ")}.` : cannot?.features;
    replace(root, why ? h("p", { class: "soft small" }, why) : null);
    return;
  }
  root.setAttribute("aria-busy", "true");
  try {
    const { strongest = [], weakest = [], synthetic } = await subject.features(layer, channel);
    const group = (name, list) => (list.length ? [h("h4", {}, name), examples(list, (one) => number(one.activation, 3))] : null);
    replace(root, group("Training images that excite it most", strongest), group("and least", weakest), synthetic ? made(synthetic) : null);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.code === "not_recorded") replace(root, h("p", { class: "soft small" }, error.message));
    else replace(root, problem(error));
  } finally {
    root.removeAttribute("aria-busy");
  }
}

function made({ image, share, stable }) {
  const reach = share == null ? "No training image excites this channel." : `It reaches ${percent(share)} of the highest value that a training image gave.`;
  const weak = stable === false ? " It falls apart when it is shifted a little, so it shows little of what the channel looks for." : "";
  return [
    h("h4", {}, "An image made to excite it"),
    h("div", { class: "row" }, h("img", { class: "made", src: image, alt: "Made by gradient ascent, not a photograph" }), h("p", { class: "soft small" }, `Made by gradient ascent. ${reach}${weak}`)),
  ];
}
