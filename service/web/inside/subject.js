/** What is looked into: one image and one model, what the network sees of the image, and its maps as they are asked for. */

import { call, json } from "../lib/api.js";
import { inTurn } from "../lib/turns.js";

const KEPT = 10;
/** Layers whose maps are kept: a large network's are some megabytes each. */

/** All maps of one layer. */
export class Maps {
  /** @param {Float32Array} values channel by channel, row by row */
  constructor([rows, columns, channels], values) {
    Object.assign(this, { rows, columns, channels, values });
    this.largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  }

  at(channel, row, column) {
    return this.values[(channel * this.rows + row) * this.columns + column];
  }

  /** One channel, as `mapCanvas` takes it. */
  channel(index) {
    return { rows: this.rows, columns: this.columns, at: (row, column) => this.at(index, row, column) };
  }

  /** Where a channel's largest value is, by size. */
  peak(channel) {
    const size = this.rows * this.columns;
    let place = channel * size;
    for (let at = place; at < (channel + 1) * size; at++) if (Math.abs(this.values[at]) > Math.abs(this.values[place])) place = at;
    const rest = place - channel * size;
    return { row: Math.floor(rest / this.columns), column: rest % this.columns, value: this.values[place] };
  }
}

export class Subject {
  #maps = new Map();
  #abort = new AbortController();

  constructor(image, model) {
    this.image = image;
    this.model = model;
    this.query = { model: model.name, version: model.version };
  }

  get signal() {
    return this.#abort.signal;
  }

  /** Stop what is under way: another image, or another model, is looked into now. */
  end() {
    this.#abort.abort();
  }

  #get(what, query = {}) {
    const options = { query: { version: this.model.version, ...query }, signal: this.signal };
    return inTurn(() => json(`models/${encodeURIComponent(this.model.name)}/${what}`, options), this.signal);
  }

  /** The network's layers, and which methods explain it. */
  layers() {
    return (this.layersAsked ??= this.#get("layers"));
  }

  /** What the network sees: the image in the size that it takes. */
  seen() {
    return (this.seenAsked ??= this.#seen());
  }

  async #seen() {
    const reply = await this.#post("activations", { layer: "images" }, "image/png");
    return createImageBitmap(await reply.blob());
  }

  /** @returns {Promise<Maps>} */
  maps(layer) {
    if (!this.#maps.has(layer)) {
      if (this.#maps.size >= KEPT) this.#maps.delete(this.#maps.keys().next().value);
      const asked = this.#read(layer);
      this.#maps.set(layer, asked);
      asked.catch(() => this.#maps.delete(layer));
    }
    return this.#maps.get(layer);
  }

  async #read(layer) {
    const reply = await this.#post("activations", { layer }, "application/octet-stream");
    const shape = reply.headers.get("x-kernelscope-shape").split(",").map(Number);
    return new Maps(shape, new Float32Array(await reply.arrayBuffer()));
  }

  /** The arithmetic of one value. */
  async unit(layer, row, column, channel) {
    return (await this.#post("activations", { layer, unit: `${row},${column},${channel}` })).json();
  }

  async explain(options) {
    return (await this.#post("explain", options)).json();
  }

  kernel(layer, channel) {
    return this.#get("kernels", { layer, channel });
  }

  features(layer, channel) {
    return this.#get("features", { layer, channel });
  }

  async neighbours() {
    return (await this.#post("neighbours", {})).json();
  }

  #post(path, query, accept) {
    const options = { query: { ...this.query, ...query }, body: this.image.blob, accept, signal: this.signal };
    return inTurn(() => call(path, options), this.signal);
  }
}
