/** Small charts as SVG: lines over time, and columns. */

import { h, replace, svg } from "../lib/dom.js";

const WIDTH = 300;
const HEIGHT = 100;

/**
 * A frame with a heading, a figure and room for a drawing.
 * @returns {{element: HTMLElement, lines: Function, columns: Function}}
 */
export function chart(name) {
  const figure = h("b", {}, "–");
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": name });
  const axis = h("div", { class: "axis" });
  // columns have their names under them, lines have theirs at either end
  const element = h("figure", { class: "chart", "data-chart": name }, h("figcaption", {}, h("span", {}, name), figure), drawing, axis);
  const say = (text, ends, even = false) => {
    axis.classList.toggle("even", even);
    figure.textContent = text;
    drawing.setAttribute("aria-label", `${name}: ${text}`);
    replace(axis, ends.map((one) => h("span", {}, one)));
  };
  return {
    element,
    /** Series of equal length, oldest first; `null` is a gap. `length` is how many values the width has room for. */
    lines(series, length, text, ends, format) {
      const top = Math.max(1e-9, ...series.flat().filter((value) => value != null)) * 1.1;
      const place = (value, index, all) => `${((index + length - all.length) / (length - 1)) * WIDTH},${HEIGHT - (value / top) * HEIGHT}`;
      replace(
        drawing,
        [0, 0.5, 1].map((share) => svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: share * HEIGHT, y2: share * HEIGHT })),
        series.map((values, index) =>
          stretches(values).map((points) =>
            svg("polyline", { class: index ? "line second" : "line", points: (points.length > 1 ? points : [...points, ...points]).map(([at, value]) => place(value, at, values)).join(" ") }),
          ),
        ),
      );
      say(text, [ends[0], `full height: ${format(top)}`, ends[1]]);
    },
    /** Columns side by side, each `[name, value]`. */
    columns(pairs, text) {
      const top = Math.max(1e-9, ...pairs.map(([, value]) => value));
      const wide = WIDTH / Math.max(1, pairs.length);
      replace(
        drawing,
        pairs.map(([, value], index) =>
          svg("rect", { class: "column", x: index * wide + wide * 0.12, width: wide * 0.76, y: HEIGHT - (value / top) * HEIGHT, height: (value / top) * HEIGHT }),
        ),
      );
      say(text, pairs.map(([one]) => one), true);
    },
  };
}

/** The runs of values between gaps, as `[index, value]`. */
function stretches(values) {
  const found = [[]];
  values.forEach((value, index) => {
    if (value == null) found.push([]);
    else found.at(-1).push([index, value]);
  });
  return found.filter((one) => one.length);
}
