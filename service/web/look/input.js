/** Where an image comes from: dropped, pasted, chosen, photographed, or one of the examples. */

import { h, replace } from "../lib/dom.js";
import { call, json } from "../lib/api.js";
import * as keys from "../lib/keys.js";
import { problem } from "../lib/problem.js";
import { bytesOf, recording } from "../lib/recording.js";
import { listed } from "../lib/files.js";

/** @typedef {{blob: Blob, name: string, url: string, example: string|null}} Image what is looked at, as `image` in the store */

export function imageInput(root, store) {
  const status = h("div");
  const preview = h("div", { class: "preview" });
  const file = picker("image-file", "Choose an image", (files) => take(store, status, files));
  const camera = picker("image-camera", "Take a photo", (files) => take(store, status, files), { capture: "environment" });
  camera.classList.add("on-touch");
  const seen = h("figure", { id: "seen", class: "seen-as" });
  const zone = h(
    "div",
    { class: "zone" },
    preview,
    h("div", { class: "row centred" }, file, camera),
    h("p", { class: "soft small" }, "or drop one anywhere, or paste it"),
  );
  const examples = h("div", { class: "examples", role: "group", "aria-label": "Example images" });
  if (recording) root.append(preview, seen);
  else root.append(zone, status, seen, examples);

  store.follow("image", (image) => {
    replace(preview, image ? picture(image) : recording ? null : h("img", { class: "empty", src: "web/icon.svg", alt: "" }));
    replace(status);
  });
  if (recording) {
    show(store, new Blob([bytesOf(recording.image.content)]), recording.image.name);
    return;
  }
  listen(store, status);
  offer(examples, store, status);
  keys.on("o", "choose an image", () => file.querySelector("input").click());
}

function picker(id, label, chosen, attributes = {}) {
  const input = h("input", {
    id,
    type: "file",
    accept: "image/*",
    class: "unseen",
    onchange: (event) => {
      chosen([...event.target.files]);
      event.target.value = "";
    },
    ...attributes,
  });
  return h("label", { class: "button primary", for: id }, label, input);
}

function picture({ url, name }) {
  return h("img", {
    src: url,
    alt: name,
    onload: (event) => event.target.classList.toggle("tiny", event.target.naturalWidth < 200),
    onerror: (event) => event.target.replaceWith(h("p", { class: "soft" }, `${name}: this browser cannot show it.`)),
  });
}

/** Drops and pastes count anywhere on the page, while this view is shown. */
function listen(store, status) {
  const here = () => store.get("view") === "look";
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    const files = await listed(event.dataTransfer);
    if (here() && files.length <= 1) take(store, status, files.map(({ file }) => file));
    else {
      store.set("folder", files);
      location.hash = "many";
    }
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (!here() || event.target.closest("input, textarea")) return;
    take(store, status, files);
  });
}

function take(store, status, [file]) {
  if (file) show(store, file, file.name);
  else replace(status, h("p", { class: "notice", role: "alert" }, "There was no image in that: drop, paste or choose a file."));
}

/** Make an image the one that is looked at. */
function show(store, blob, name, example = null) {
  const before = store.get("image");
  if (before) URL.revokeObjectURL(before.url);
  store.set("image", { blob, name, url: URL.createObjectURL(blob), example });
}

async function offer(root, store, status) {
  let examples;
  try {
    ({ examples } = await json("web/examples"));
  } catch {
    return; // examples are a convenience: what keeps them away is told by the first call that matters
  }
  const buttons = examples.map(({ name, url }) =>
    h(
      "button",
      { class: "example", "aria-label": `Example: ${name}`, onclick: () => choose(url, name) },
      h("img", { src: url, alt: "", width: 48, height: 48 }),
    ),
  );
  const choose = async (url, name) => {
    try {
      show(store, await (await call(url, { accept: "image/*" })).blob(), name, name);
    } catch (error) {
      replace(status, problem(error));
    }
  };
  if (buttons.length) replace(root, h("p", { class: "soft small" }, "Or try one of these:"), buttons);
  const asked = examples.find(({ name }) => name === store.get("address").get("example"));
  if (asked && !store.get("image")) choose(asked.url, asked.name);
  let at = -1;
  keys.on("e", "look at the next example", () => buttons.length && buttons[(at = (at + 1) % buttons.length)].click());
}
