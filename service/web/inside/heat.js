/** A heat map on the image: what speaks for a class and what against it, block by block as it was computed. */

import { canvas } from "../lib/canvas.js";
import { css, palette } from "../lib/colours.js";

const SIDE = 384;
/** Pixels of a drawing's longer side, at least: a whole number of them for each pixel of the image. */

/** How many pixels of a drawing stand for one of the image. */
export function zoom(image) {
  return Math.max(1, Math.ceil(SIDE / Math.max(image.width, image.height)));
}

/**
 * @param {ImageBitmap} image what the network sees
 * @param {{values: number[][], scale: number, origin: number[], step: number[], size: number[]}} map
 * @param {{strength: number}} options how much of the map and how little of the image's colour, 0 to 1; `redraw` takes
 *   a change up
 * @param {number} [sign] draw only values of this sign
 */
export function heat(image, map, options, label, sign = 0) {
  const factor = zoom(image);
  return canvas(image.width * factor, image.height * factor, label, (context) => {
    const { width, height } = context.canvas;
    context.filter = "grayscale(1) contrast(.7)";
    context.drawImage(image, 0, 0, width, height);
    context.filter = "none";
    context.globalAlpha = 1 - options.strength;
    context.drawImage(image, 0, 0, width, height);
    context.globalAlpha = 1;
    const ends = palette("values");
    for (const block of blocks(map)) {
      const share = map.scale ? block.value / map.scale : 0;
      if (!share || share * sign < 0) continue;
      context.fillStyle = css(share > 0 ? ends.positive : ends.negative, Math.abs(share) * options.strength * 0.9);
      context.fillRect(block.left * factor, block.top * factor, block.width * factor, block.height * factor);
    }
  });
}

/** The cells of a map as blocks that do not overlap, in pixels of the image. */
export function* blocks({ values, origin: [top, left], step, size }) {
  const [height, width] = size.map((side, axis) => Math.min(side, step[axis]));
  for (let row = 0; row < values.length; row++) {
    for (let column = 0; column < values[0].length; column++) {
      yield {
        row,
        column,
        value: values[row][column],
        top: top + row * step[0] + (size[0] - height) / 2,
        left: left + column * step[1] + (size[1] - width) / 2,
        height,
        width,
      };
    }
  }
}

/** The block at a pixel of the image. */
export function blockAt(map, row, column) {
  for (const block of blocks(map)) {
    const inside = row >= block.top && row < block.top + block.height && column >= block.left && column < block.left + block.width;
    if (inside) return block;
  }
  return null;
}
