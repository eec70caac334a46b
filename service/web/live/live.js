/** What the server is doing now: requests, latencies and batches, read from its metrics once a second. */

import { h, replace } from "../lib/dom.js";
import { call } from "../lib/api.js";
import { count, milliseconds } from "../lib/format.js";
import { problem } from "../lib/problem.js";
import { chart } from "./chart.js";
import { histogram, parse, quantile, since, total } from "./prometheus.js";

const PERIOD = 1000;
const LENGTH = 120;
/** What this page itself asks for is not counted. */
const ours = /^\/(metrics|web|docs|$)/;
const counted = ({ route }) => !ours.test(route) && !route?.startsWith("/health");
const ANSWERED = /^2/;

export function mount(root, store) {
  const status = h("div");
  const rate = chart("Requests a second");
  const latency = chart("Latency");
  const batches = chart("Images in a batch");
  const queue = chart("Images that wait");
  const figures = h("div", { class: "tiles" });
  root.append(
    h("h1", {}, "Live"),
    h("p", { class: "soft" }, "What this server does, all its processes together, read from ", h("a", { href: "metrics" }, "/metrics"), " once a second while this view is open. This page's own files and its look at the metrics are left out."),
    status,
    h("div", { class: "charts" }, [rate, latency, batches, queue].map(({ element }) => element)),
    h("p", { class: "soft small" }, h("span", { class: "swatch" }), " half of the requests were faster (median) ", h("span", { class: "swatch second" }), " 99 of 100 were faster; both from the buckets of a histogram, so they are near, not exact"),
    figures,
  );
  const history = { rate: [], median: [], tail: [], queue: [], sizes: [] };
  let before = null;
  let timer = null;

  async function read() {
    try {
      const now = { at: performance.now(), samples: parse(await (await call("metrics", { accept: "text/plain" })).text()) };
      replace(status);
      if (before) show(now);
      before = now;
    } catch (error) {
      before = null;
      replace(status, problem(error));
    }
    if (store.get("view") === "live") timer = setTimeout(read, PERIOD);
  }

  function show({ at, samples }) {
    const seconds = (at - before.at) / 1000;
    const asked = (from) => total(from, "kernelscope_requests_total", counted);
    const times = since(histogram(samples, "kernelscope_request_seconds", counted), histogram(before.samples, "kernelscope_request_seconds", counted));
    keep(history.rate, (asked(samples) - asked(before.samples)) / seconds);
    keep(history.median, inMilliseconds(quantile(times, 0.5)));
    keep(history.tail, inMilliseconds(quantile(times, 0.99)));
    keep(history.queue, total(samples, "kernelscope_queue_depth_images"));
    keep(history.sizes, since(histogram(samples, "kernelscope_batch_size_images"), histogram(before.samples, "kernelscope_batch_size_images")));
    draw(samples);
  }

  function draw(samples) {
    const ends = [`${LENGTH * (PERIOD / 1000)} s ago`, "now"];
    rate.lines([history.rate], LENGTH, history.rate.at(-1).toFixed(1), ends, (value) => value.toFixed(1));
    const last = history.median.findLast((value) => value != null);
    const tail = history.tail.findLast((value) => value != null);
    latency.lines([history.median, history.tail], LENGTH, last == null ? "no requests" : `${milliseconds(last)} / ${milliseconds(tail)}`, ends, milliseconds);
    queue.lines([history.queue], LENGTH, count(history.queue.at(-1)), ends, (value) => value.toFixed(0));
    const sizes = together(history.sizes);
    batches.columns(sizes.map(([bound, amount], index) => [range(bound, sizes[index - 1]?.[0]), amount]), `${count(sizes.reduce((sum, [, amount]) => sum + amount, 0))} batches`);
    const requests = (fits) => total(samples, "kernelscope_requests_total", (labels) => counted(labels) && fits(labels.code));
    replace(
      figures,
      tile(requests((code) => ANSWERED.test(code)), "requests answered since the start"),
      tile(requests((code) => code.startsWith("4")), "refused as wrong (4xx)"),
      tile(total(samples, "kernelscope_shed_requests_total"), "turned away for want of capacity"),
      tile(total(samples, "kernelscope_cancelled_requests_total"), "given up by their client"),
      tile(total(samples, "kernelscope_requests_in_flight") - 1, "being answered now"),
    );
  }

  store.follow("view", (view) => {
    clearTimeout(timer);
    before = null;
    if (view === "live") read();
  });
}

function tile(value, text) {
  return h("div", { class: "tile" }, h("b", { "data-figure": text }, count(Math.max(0, value))), text);
}

function keep(list, value) {
  list.push(value);
  if (list.length > LENGTH) list.shift();
}

function inMilliseconds(seconds) {
  return seconds == null ? null : seconds * 1000;
}

/** The batches of all moments that are kept; sizes above the largest that came are left out. */
function together(moments) {
  const sums = new Map();
  for (const [bound, amount] of moments.flat()) sums.set(bound, (sums.get(bound) ?? 0) + amount);
  const all = [...sums];
  return all.slice(0, Math.max(6, all.findLastIndex(([, amount]) => amount) + 1));
}

function range(bound, below = 0) {
  if (bound === Infinity) return `> ${below}`;
  return bound === below + 1 ? String(bound) : `${below + 1}–${bound}`;
}
