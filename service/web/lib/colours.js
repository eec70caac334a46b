/**
 * Colours of values. Zero is always the colour of the paper; a value's distance from it says how large it is.
 *
 * There are two maps, so that nobody takes weights for values: orange and blue for what flows through the network and
 * for what speaks for and against a class, purple and green for weights.
 */

import { isDark } from "./theme.js";

const PALETTES = {
  values: {
    light: { zero: [241, 239, 233], positive: [185, 60, 10], negative: [29, 78, 216] },
    dark: { zero: [16, 18, 21], positive: [251, 146, 60], negative: [124, 172, 255] },
  },
  weights: {
    light: { zero: [241, 239, 233], positive: [126, 34, 206], negative: [21, 128, 61] },
    dark: { zero: [16, 18, 21], positive: [216, 180, 254], negative: [134, 239, 172] },
  },
};

/** The colours at zero and at either end, as they are on the page now. */
export function palette(name) {
  return PALETTES[name][isDark() ? "dark" : "light"];
}

/**
 * The colour of a value.
 * @param {number} share the value over the one that has the full colour, -1 to 1; beyond that it is cut off
 * @returns {number[]} red, green, blue
 */
export function mixed({ zero, positive, negative }, share) {
  const end = share < 0 ? negative : positive;
  const part = Math.min(1, Math.abs(share));
  return zero.map((from, index) => from + (end[index] - from) * part);
}

/** As CSS takes it. */
export function css(rgb, alpha = 1) {
  return `rgb(${rgb.map(Math.round).join(" ")} / ${alpha})`;
}
