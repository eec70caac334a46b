/** Which class is asked about, and which it is set against: "why a cat, and not a dog?" */

import { h } from "../lib/dom.js";
import { recording } from "../lib/recording.js";

/** Controls of `class` and `against` in the store. */
export function question(store, { model, signal }) {
  const select = (id, options, changed) => h("select", { id, onchange: (event) => changed(Number(event.target.value)) }, options);
  const classes = () => model.labels.map((label, index) => h("option", { value: index, disabled: recording && !recording.classes.includes(index) }, label));
  const chosen = select("class", classes(), (index) => store.set("class", index));
  const against = select("against", [h("option", { value: -1 }, "anything else"), classes()], (index) => store.set("against", index < 0 ? null : index));
  const show = (index, other) => {
    chosen.value = String(index);
    against.value = String(other ?? -1);
    for (const option of against.options) {
      const missing = recording && option.value !== "-1" && !recording.classes.includes(Number(option.value));
      option.disabled = missing || option.value === String(index);
    }
    if (other === index) store.set("against", null);
  };
  store.follow(["class", "against"], show, signal);
  return h("h2", { class: "question" }, h("label", { for: "class" }, "Why"), chosen, h("label", { for: "against" }, "and not"), against, "?");
}
