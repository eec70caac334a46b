/** A kernel that slides over one channel of its input: what it covers, and what that adds to the value. */

import { canvas, grid, mapCanvas, under } from "../lib/canvas.js";
import { h, replace } from "../lib/dom.js";
import { number, signed } from "../lib/format.js";
import { problem } from "../lib/problem.js";
import { frame } from "./frame.js";

const SIDE = 260;
const SLICES = 48;
const PACE = 90;
/** Milliseconds that the kernel stays in one place while it slides by itself. */

/**
 * @param {(unit: number[]|null) => void} moved called where the kernel is moved here: by "Slide it", or over the input
 * @returns {Promise<{at: (unit: number[]|null) => void, stop: () => void}|null>} `at` shows the kernel where it makes
 *   that value; `null` where the kernel cannot be shown
 */
export async function slide(root, subject, layer, maps, channel, moved) {
  try {
    const [reply, input] = [await subject.kernel(layer.layer, channel), await subject.maps(layer.inputs[0])];
    return draw(root, layer, maps, channel, reply, input, moved);
  } catch (error) {
    if (error.name !== "AbortError" && error.code !== "not_recorded") replace(root, problem(error));
    return null;
  }
}

function draw(root, layer, maps, channel, { kernels: [kernel], scale }, input, moved) {
  const groups = layer.groups ?? 1;
  const first = Math.floor(channel / (maps.channels / groups)) * kernel.length;
  const heavy = (slice) => slice.flat().reduce((sum, value) => sum + Math.abs(value), 0);
  const order = [...kernel.keys()].sort((a, b) => heavy(kernel[b]) - heavy(kernel[a]));
  const state = { slice: order[0], at: null, timer: null };
  const reach = (axis) => (layer.kernel[axis] - 1) * layer.dilation[axis] + 1;
  const corner = ([row, column]) => ({
    top: row * layer.stride[0] - layer.padding[0],
    left: column * layer.stride[1] - layer.padding[1],
    height: reach(0),
    width: reach(1),
  });

  const stage = h("figure");
  const words = h("p", { class: "small" });
  const play = h("button", { onclick: () => (state.timer ? stop() : start()) }, "Slide it");
  const slices = h(
    "ul",
    { class: "kernels" },
    order.slice(0, SLICES).map((slice) =>
      h(
        "li",
        {},
        h(
          "button",
          {
            "data-slice": slice,
            "aria-label": `Slice for input channel ${first + slice}`,
            onclick: () => pick(slice),
            onpointerenter: (event) => hover(event, slice),
            onpointerleave: leave,
          },
          mapCanvas(grid(kernel[slice]), scale, "", "weights"),
        ),
      ),
    ),
  );
  let picture;

  function pick(slice) {
    state.slice = slice;
    for (const button of slices.querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.dataset.slice) === slice));
    const from = first + slice;
    const small = mapCanvas(input.channel(from), input.largest, "");
    const factor = Math.max(1, Math.floor(SIDE / Math.max(input.rows, input.columns)));
    picture = canvas(input.columns * factor, input.rows * factor, `Channel ${from} of ${layer.inputs[0]}, and the kernel on it`, (context) => {
      small.redraw();
      context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
      if (state.at) frame(context, corner(state.at), factor);
    });
    picture.addEventListener("pointermove", (event) => {
      const place = under(event, picture, input.columns, input.rows);
      if (place && !state.timer) moved([nearest(place.row, 0), nearest(place.column, 1)]);
    });
    replace(stage, picture, h("figcaption", { class: "soft small" }, `channel ${from} of ${layer.inputs[0]}, under the kernel`));
    at(state.at);
  }

  /** The value whose window has its middle nearest to a place of the input. */
  function nearest(place, axis) {
    const middle = (place + layer.padding[axis] - (reach(axis) - 1) / 2) / layer.stride[axis];
    return Math.max(0, Math.min([maps.rows, maps.columns][axis] - 1, Math.round(middle)));
  }

  function at(unit) {
    state.at = unit;
    picture.redraw();
    const slice = h("b", {}, `channel ${first + state.slice}`);
    replace(words, unit ? ["Here ", slice, " adds ", h("b", { "data-value": partial(unit) }, signed(partial(unit), 2)), ` to the value in row ${unit[0]}, column ${unit[1]}: ${number(maps.at(channel, ...unit), 3)}.`] : ["Point at a map to slide the kernel over ", slice, "."]);
  }

  /** R ⊙ K summed over one input channel; what lies beside the input counts as zero. */
  function partial(unit) {
    const { top, left } = corner(unit);
    let sum = 0;
    kernel[state.slice].forEach((weights, i) =>
      weights.forEach((weight, j) => {
        const [row, column] = [top + i * layer.dilation[0], left + j * layer.dilation[1]];
        if (row >= 0 && row < input.rows && column >= 0 && column < input.columns) sum += weight * input.at(first + state.slice, row, column);
      }),
    );
    return sum;
  }

  function start() {
    play.textContent = "Stop";
    let place = 0;
    const step = () => {
      if (!root.isConnected || place >= maps.rows * maps.columns) return stop();
      moved([Math.floor(place / maps.columns), place % maps.columns]);
      place++;
      state.timer = setTimeout(step, PACE);
    };
    step();
  }

  /** A kernel that is pointed at slides, for whom that is not too much. */
  function hover({ pointerType }, slice) {
    if (pointerType !== "mouse" || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    stop();
    pick(slice);
    start();
  }

  function leave() {
    if (!state.timer) return;
    stop();
    moved();
  }

  function stop() {
    clearTimeout(state.timer);
    state.timer = null;
    play.textContent = "Slide it";
  }

  replace(
    root,
    h("h4", {}, "The kernel that makes it"),
    h("p", { class: "soft small" }, `${kernel.length} slices of ${layer.kernel.join(" × ")}, one for each channel of ${layer.inputs[0]}`, order.length > SLICES ? `; the ${SLICES} heaviest are shown` : "", ". Purple adds, green takes away; full colour is the layer's largest weight."),
    h("div", { class: "bench narrow" }, h("div", {}, slices), stage, h("div", {}, words, play)),
  );
  pick(state.slice);
  return { at, stop };
}
