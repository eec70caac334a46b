/** The page's start: the views and how one gets from one to another. */

import { h, replace } from "./lib/dom.js";
import { json } from "./lib/api.js";
import { recording } from "./lib/recording.js";
import { problem } from "./lib/problem.js";
import { Store } from "./lib/store.js";
import * as theme from "./lib/theme.js";
import * as keys from "./lib/keys.js";
import { chooser } from "./models/chooser.js";
import * as look from "./look/look.js";

const VIEWS = {
  look: { title: "One image", load: async () => look },
  many: { title: "Many images", load: () => import("./many/many.js") },
  model: { title: "The model", load: () => import("./models/card.js") },
  live: { title: "Live", load: () => import("./live/live.js") },
};
const shown = recording ? ["look", "model"] : Object.keys(VIEWS);
const store = new Store();
const mounted = new Map();

/** Show the view that the address names; the others are told that they are hidden. */
async function route() {
  const [name, parameters] = location.hash.slice(1).split("?");
  const view = shown.includes(name) ? name : "look";
  for (const link of document.querySelectorAll("#views a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const one of Object.keys(VIEWS)) document.getElementById(`view-${one}`).hidden = one !== view;
  document.getElementById("chooser").hidden = view === "live";
  document.title = view === "look" ? "Kernelscope" : `${VIEWS[view].title} · Kernelscope`;
  store.set("address", new URLSearchParams(parameters));
  store.set("view", view);
  if (mounted.has(view)) return;
  mounted.set(view, true);
  const { mount } = await VIEWS[view].load();
  mount(document.getElementById(`view-${view}`), store);
}

function tools() {
  const name = () => ({ auto: "as the system", light: "light", dark: "dark" })[theme.chosen()];
  const button = h("button", {
    class: "quiet",
    onclick: () => {
      theme.next();
      label();
    },
  });
  const label = () => {
    replace(button, h("span", { "aria-hidden": "true" }, "◐"));
    button.setAttribute("aria-label", `Colours: ${name()}. Change them`);
  };
  label();
  replace(
    document.getElementById("tools"),
    h("button", { class: "quiet", onclick: keys.help, "aria-label": "Keys and help" }, "?"),
    button,
    recording ? null : h("a", { class: "quiet", href: "docs" }, "API"),
  );
}

async function start() {
  theme.show(theme.chosen());
  tools();
  replace(
    document.getElementById("views"),
    shown.map((name) => h("a", { href: `#${name}`, "data-view": name }, VIEWS[name].title)),
  );
  keys.install(shown);
  addEventListener("hashchange", route);
  await route();
  try {
    store.set("served", (await json("models")).models);
    chooser(document.getElementById("chooser"), store);
    performance.mark("interactive");
  } catch (error) {
    replace(document.getElementById("chooser"), problem(error, start));
  }
}

start();
