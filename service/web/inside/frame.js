/** Marks on a drawing: where a value's window or its receptive field is. */

import { css, palette } from "../lib/colours.js";

/** A frame that is seen on every ground. `box` is in the drawing's units of `factor` pixels. */
export function frame(context, { top, left, height, width }, factor) {
  const box = [left * factor, top * factor, width * factor, height * factor];
  for (const [colour, line] of [["#000", 4], ["#fff", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.strokeRect(...box);
  }
}

/** Dim what lies outside a box. */
export function veil(context, { top, left, height, width }, factor) {
  context.fillStyle = css(palette("values").zero, 0.66);
  context.beginPath();
  context.rect(0, 0, context.canvas.width, context.canvas.height);
  context.rect(left * factor, top * factor, width * factor, height * factor);
  context.fill("evenodd");
}

/** The receptive field of a value, in pixels of the image; it may reach beyond the image's border. */
export function field({ origin, jump, receptive_field: size }, [row, column]) {
  return { top: origin[0] + row * jump[0], left: origin[1] + column * jump[1], height: size[0], width: size[1] };
}
