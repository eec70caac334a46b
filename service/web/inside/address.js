/** A link to what is looked at: model, layer, channel and value stand in the address. */

import { recording } from "../lib/recording.js";

/** Put what the store holds into the address, without a step in the browser's history. */
export function remember(store, model) {
  if (recording || store.get("view") !== "look") return;
  const parts = {
    model: `${model.name}@${model.version}`,
    example: store.get("image")?.example,
    layer: store.get("layer"),
    channel: store.get("channel"),
    unit: store.get("unit")?.join(","),
  };
  const pairs = Object.entries(parts).filter(([, value]) => value != null);
  const text = pairs.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&").replaceAll("%2C", ",").replaceAll("%40", "@");
  history.replaceState(null, "", `#look?${text}`);
}
