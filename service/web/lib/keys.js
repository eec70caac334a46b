/** Single keys, and the dialog that lists them; they can be switched off, for those whose software types for them. */

import { h } from "./dom.js";

const listeners = new Map();
let enabled = true;
let views = [];

/** Let a key do something while its view is shown. `what` is what the dialog says of it. */
export function on(key, what, act) {
  listeners.set(key, { what, act });
}

export function install(names) {
  views = names;
  names.forEach((name, index) => on(String(index + 1), `go to view ${index + 1}`, () => (location.hash = name)));
  on("?", "show this list", help);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea, dialog");
    if (!enabled || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const listener = listeners.get(event.key);
    if (!listener) return;
    event.preventDefault();
    listener.act();
  });
}

/** Show which keys there are. */
export function help() {
  const rows = [...listeners].filter(([key]) => !/^[1-9]$/.test(key));
  const box = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "help-title", onclose: () => box.remove() },
    h("h2", { id: "help-title" }, "Keys"),
    h(
      "dl",
      { class: "keys" },
      h("dt", {}, h("kbd", {}, "1"), " … ", h("kbd", {}, views.length)),
      h("dd", {}, "go to a view"),
      rows.map(([key, { what }]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]),
    ),
    h(
      "label",
      { class: "check" },
      h("input", { type: "checkbox", checked: enabled, onchange: (event) => (enabled = event.target.checked) }),
      " Single keys do something",
    ),
    h("div", { class: "row" }, h("button", { class: "primary", onclick: () => box.close() }, "Close")),
  );
  document.body.append(box);
  box.showModal();
}
