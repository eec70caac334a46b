/** Numbers as people read them. */

const MINUS = "−";

/** A probability, 0 to 1: two digits behind the point where it is near either end, one elsewhere. */
export function percent(share) {
  const value = share * 100;
  if (value > 0 && value < 0.01) return "< 0.01 %";
  if (value > 99.99 && value < 100) return "> 99.99 %";
  return `${value.toFixed(value < 1 || value > 99 ? 2 : 1)} %`;
}

/** A signed number with a true minus. */
export function signed(value, digits = 2) {
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : `${value < 0 ? MINUS : "+"}${text}`;
}

/** A number with as many digits as it takes to tell it apart, and a true minus. */
export function number(value, digits = 4) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e6 || size < 1e-4 ? size.toExponential(2) : String(Number(size.toPrecision(digits)));
  return value < 0 ? MINUS + text : text;
}

/** A whole number in groups of three. */
export function count(value) {
  return Math.round(value).toLocaleString("en");
}

/** A time in milliseconds. */
export function milliseconds(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${value.toFixed(0)} ms` : `${(value / 1000).toFixed(1)} s`;
}

/** A size in bytes. */
export function bytes(value) {
  return value < 1e3 ? `${value} B` : value < 1e6 ? `${(value / 1e3).toFixed(0)} kB` : `${(value / 1e6).toFixed(1)} MB`;
}

/** A noun with its number: "1 image", "2 images". */
export function many(amount, noun) {
  return `${count(amount)} ${noun}${amount === 1 ? "" : "s"}`;
}
