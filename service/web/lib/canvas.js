/** Drawing of maps and images in their own resolution: one value, one block. */

import { mixed, palette } from "./colours.js";
import { h } from "./dom.js";
import { theme } from "./theme.js";

/**
 * A canvas that is drawn by `draw(context)` now and whenever the colours change, for as long as it is on the page.
 * @param {number} width its own pixels; the stylesheet says how large it is shown
 */
export function canvas(width, height, label, draw, attributes = {}) {
  const element = h("canvas", { width, height, role: label ? "img" : null, "aria-label": label, "aria-hidden": label ? null : "true", ...attributes });
  element.redraw = () => {
    const context = element.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = false;
    draw(context);
  };
  element.redraw();
  const again = () => (element.isConnected ? element.redraw() : theme.removeEventListener("change", again));
  theme.addEventListener("change", again);
  return element;
}

/**
 * One map, a pixel a value.
 * @param {{rows: number, columns: number, at: (row: number, column: number) => number}} map
 * @param {number} scale the value that has the full colour
 */
export function mapCanvas(map, scale, label, colours = "values") {
  return canvas(map.columns, map.rows, label, (context) => {
    const pixels = context.createImageData(map.columns, map.rows);
    const ends = palette(colours);
    let place = 0;
    for (let row = 0; row < map.rows; row++) {
      for (let column = 0; column < map.columns; column++) {
        pixels.data.set(mixed(ends, scale ? map.at(row, column) / scale : 0), place);
        pixels.data[place + 3] = 255;
        place += 4;
      }
    }
    context.putImageData(pixels, 0, 0);
  });
}

/** A map from rows of numbers. */
export function grid(values) {
  return { rows: values.length, columns: values[0].length, at: (row, column) => values[row][column] };
}

/** Where a pointer is over a canvas, in the canvas' own pixels; `null` beside it. */
export function under(event, element, width = element.width, height = element.height) {
  const box = element.getBoundingClientRect();
  const column = Math.floor(((event.clientX - box.left) / box.width) * width);
  const row = Math.floor(((event.clientY - box.top) / box.height) * height);
  return row >= 0 && row < height && column >= 0 && column < width ? { row, column } : null;
}
