/** Dark and light: the system's, unless the person chose one. */

const PLACE = "kernelscope-theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" };
const system = matchMedia("(prefers-color-scheme: dark)");

/** Sends `change` when what is drawn needs other colours. */
export const theme = new EventTarget();

/** What was chosen: `auto`, `light` or `dark`. */
export function chosen() {
  try {
    return NEXT[localStorage.getItem(PLACE)] ? localStorage.getItem(PLACE) : "auto";
  } catch {
    return "auto"; // storage is blocked, as in a file opened from a disk
  }
}

export function isDark() {
  const now = document.documentElement.dataset.theme;
  return now ? now === "dark" : system.matches;
}

/** Show the choice after this one; returns it. */
export function next() {
  const now = NEXT[document.documentElement.dataset.theme ?? "auto"];
  try {
    localStorage.setItem(PLACE, now);
  } catch {
    // it holds until the page is left, then
  }
  show(now);
  return now;
}

export function show(choice) {
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  theme.dispatchEvent(new Event("change"));
}

system.addEventListener("change", () => theme.dispatchEvent(new Event("change")));
