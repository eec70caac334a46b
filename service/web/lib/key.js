/** The API key: asked for where the server wants one, kept until the tab is closed. */

import { h } from "./dom.js";

const PLACE = "kernelscope-key";
let asking = null;

/** The key that requests are sent with; empty where there is none. */
export function keyNow() {
  return sessionStorage.getItem(PLACE) ?? "";
}

/** Drop the key. */
export function forget() {
  sessionStorage.removeItem(PLACE);
}

/**
 * Ask the person for a key; several calls that need one at once ask but once.
 * @param {boolean} refused whether the key that was given before was the wrong one
 * @returns {Promise<boolean>} whether there is a key now
 */
export function ask(refused) {
  asking ??= dialog(refused).finally(() => (asking = null));
  return asking;
}

function dialog(refused) {
  return new Promise((resolve) => {
    const input = h("input", { type: "password", id: "key-input", autocomplete: "off", spellcheck: "false", required: true });
    const box = h(
      "dialog",
      { class: "dialog", "aria-labelledby": "key-title", onclose: () => done(box, resolve) },
      h("h2", { id: "key-title" }, "This server asks for a key"),
      h("p", { role: refused ? "alert" : null }, refused ? "That key was refused. Is it complete?" : "Ask whoever runs the server for one."),
      h(
        "form",
        { onsubmit: (event) => take(event, input, box) },
        h("label", { for: "key-input" }, "API key"),
        input,
        h("p", { class: "soft" }, "It stays in this tab and is gone when the tab is closed."),
        h(
          "div",
          { class: "row" },
          h("button", { class: "primary" }, "Use this key"),
          h("button", { type: "button", onclick: () => box.close() }, "Not now"),
        ),
      ),
    );
    document.body.append(box);
    box.showModal();
    input.focus();
  });
}

function take(event, input, box) {
  event.preventDefault();
  sessionStorage.setItem(PLACE, input.value.trim());
  box.close();
}

function done(box, resolve) {
  box.remove();
  resolve(Boolean(keyNow()));
}
