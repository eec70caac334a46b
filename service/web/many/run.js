/** Sends images in batches, a few at a time, and takes a full server's word for when to come again. */

import { ApiError, json } from "../lib/api.js";
import { pause } from "../lib/turns.js";

const IMAGES = 16;
/** Bytes in a batch: half of what the server takes unless it was told otherwise. */
const BYTES = 8 * 2 ** 20;
const AT_ONCE = 2;
const TRIES = 6;

/**
 * @typedef {Object} Row one image's answer
 * @property {File} file
 * @property {string} path
 * @property {string} url for an `<img>`
 * @property {string|null} folder that the image lies in
 * @property {string} [label]
 * @property {number} probability 0 where there is no answer
 * @property {boolean|null} agrees whether the answer is the folder's name; `null` where the folder names no class
 * @property {string} [error] why it could not be read
 */

export class Run {
  #abort = new AbortController();

  constructor(images, model) {
    this.images = images;
    this.model = model;
  }

  get cancelled() {
    return this.#abort.signal.aborted;
  }

  cancel() {
    this.#abort.abort();
  }

  /** The answers of one batch after another, as they come. */
  async *rows() {
    const waiting = batches(this.images);
    const running = new Set();
    while ((waiting.length || running.size) && !this.cancelled) {
      while (waiting.length && running.size < AT_ONCE) {
        const job = this.#send(waiting.shift()).then((rows) => ({ job, rows }));
        running.add(job);
      }
      let done;
      try {
        done = await Promise.race(running);
      } catch (error) {
        if (error.name === "AbortError") return;
        this.cancel();
        throw error;
      }
      running.delete(done.job);
      yield done.rows;
    }
  }

  async #send(batch) {
    const form = new FormData();
    for (const { file, path } of batch) form.append("file", file, path);
    const query = { model: this.model.name, version: this.model.version, top_k: 1 };
    for (let attempt = 1; ; attempt++) {
      try {
        const { predictions } = await json("predict/batch", { query, body: form, signal: this.#abort.signal });
        return batch.map((one, index) => this.#row(one, predictions[index]));
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.status === 413 && batch.length > 1) return this.#halves(batch);
        if (error.status === 413) return [this.#row(batch[0], { error: { message: error.message } })];
        if (error.status !== 503 || attempt === TRIES) throw error;
        await pause((error.retry || 1) * 1000 * attempt, this.#abort.signal);
      }
    }
  }

  async #halves(batch) {
    const middle = batch.length >> 1;
    return [...(await this.#send(batch.slice(0, middle))), ...(await this.#send(batch.slice(middle)))];
  }

  /** @returns {Row} */
  #row({ file, path }, answer) {
    const folder = path.split("/").at(-2) ?? null;
    const row = { file, path, folder, url: URL.createObjectURL(file), probability: 0, agrees: null };
    if (answer.error) return { ...row, error: answer.error.message };
    const { label, probability, unsure } = answer;
    return { ...row, label, probability, unsure, agrees: this.model.labels.includes(folder) ? label === folder : null };
  }
}

function batches(images) {
  const all = [];
  let size = Infinity;
  for (const image of images) {
    if (size + image.file.size > BYTES || all.at(-1).length === IMAGES) {
      all.push([]);
      size = 0;
    }
    all.at(-1).push(image);
    size += image.file.size;
  }
  return all;
}
