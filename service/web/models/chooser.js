/** Which model answers, and which stands beside it. */

import { h, replace } from "../lib/dom.js";
import { recording } from "../lib/recording.js";

const title = (model) => `${model.name} · version ${model.version}`;

/**
 * Choices of one model or two; `models` in the store is what was chosen.
 * @param {HTMLElement} root
 * @param {Store} store `served` are the models that there are
 */
export function chooser(root, store) {
  const served = store.get("served");
  if (!served.length) {
    replace(root, h("p", { class: "notice" }, "No model is served here."));
    return;
  }
  const named = store.get("address").get("model");
  const newest = served.filter((model) => model.default).at(-1) ?? served[0];
  const first = served.find((model) => `${model.name}@${model.version}` === named) ?? newest;

  const draw = ([model, other]) => {
    const focused = root.contains(document.activeElement) ? document.activeElement.id : "";
    const select = (id, label, chosen, change) =>
      h(
        "label",
        { class: "field", for: id },
        h("span", {}, label),
        h(
          "select",
          { id, onchange: (event) => change(served[event.target.selectedIndex]) },
          served.map((one) => h("option", { selected: one === chosen }, title(one))),
        ),
      );
    const another = () => store.set("models", [model, served.find((one) => one !== model) ?? model]);
    replace(
      root,
      select("choose-model", "Model", model, (one) => store.set("models", other ? [one, other] : [one])),
      other
        ? [
            select("choose-other", "beside", other, (one) => store.set("models", [model, one])),
            h("button", { class: "quiet", onclick: () => store.set("models", [model]) }, "Only one"),
          ]
        : served.length > 1 && !recording
          ? h("button", { class: "quiet", onclick: another }, "Beside another")
          : null,
    );
    if (focused) document.getElementById(focused)?.focus();
  };
  store.follow("models", (models) => models && draw(models));
  store.set("models", [first]);
}

export { title };
