/** A model's card as the page reads it: parts that nothing is known of are there, and empty. */

import { json } from "../lib/api.js";

export async function cardOf({ name, version }, signal) {
  const { card } = await json(`models/${encodeURIComponent(name)}`, { query: { version }, signal });
  return { accuracy: {}, cost: {}, data: {}, training: {}, unsure_below: 0, ...card };
}
