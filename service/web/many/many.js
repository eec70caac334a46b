/** Many images at once: a grid that fills as answers come, sorted and counted, and a CSV of it. */

import { announce, h, replace } from "../lib/dom.js";
import { count, many as amount, percent } from "../lib/format.js";
import { fromList } from "../lib/files.js";
import { problem } from "../lib/problem.js";
import { save, table } from "./csv.js";
import { Run } from "./run.js";

const IMAGE = /\.(jpe?g|jpe|jfif|png|webp|gif|bmp|tiff?|avif)$/i;
const ORDERS = {
  "least sure first": (a, b) => a.probability - b.probability,
  "surest first": (a, b) => b.probability - a.probability,
  "disagreement with the folder first": (a, b) => (a.agrees ?? true) - (b.agrees ?? true) || b.probability - a.probability,
  "name": (a, b) => a.path.localeCompare(b.path, "en", { numeric: true }),
};
const SHOWN = 600;
/** More tiles than this are not drawn: the CSV holds all of them. */

export function mount(root, store) {
  const state = { rows: [], order: Object.keys(ORDERS)[0], only: "all", run: null };
  const notes = h("div");
  const progress = h("div", { class: "progress" });
  const summary = h("div");
  const grid = h("ol", { class: "grid", "aria-label": "Answers" });
  const bar = h("div", { class: "row" });
  root.append(
    h("h1", {}, "Many images"),
    h("p", { class: "lead" }, "Drop a folder anywhere on this page, or choose one. Where the folders in it are named after classes, the page also says how often the answer is the folder's name."),
    h("div", { class: "row" }, picker("folder", "Choose a folder", { webkitdirectory: true }), picker("files", "Choose images", { multiple: true, accept: "image/*" })),
    notes,
    progress,
    summary,
    bar,
    grid,
  );

  function picker(id, text, attributes) {
    const change = (event) => {
      store.set("folder", fromList(event.target.files));
      event.target.value = "";
    };
    return h("label", { class: "button primary", for: `many-${id}` }, text, h("input", { id: `many-${id}`, type: "file", class: "unseen", onchange: change, ...attributes }));
  }

  async function start(files, [model]) {
    state.run?.cancel();
    for (const { url } of state.rows) URL.revokeObjectURL(url);
    const images = files.filter(({ file, path }) => file.type.startsWith("image/") || IMAGE.test(path));
    const left = files.length - images.length;
    replace(notes, images.length ? (left ? h("p", { class: "soft small" }, `${amount(left, "file")} without an image's name left out.`) : null) : h("p", { class: "notice", role: "alert" }, "There is no image in that: JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF are read."));
    state.rows = [];
    replace(grid);
    replace(summary);
    replace(bar);
    if (!images.length) return;
    const run = (state.run = new Run(images, model));
    try {
      for await (const rows of run.rows()) {
        if (state.run !== run) return;
        state.rows.push(...rows);
        draw(run, images.length);
      }
    } catch (error) {
      replace(notes, problem(error, () => start(files, [model])));
    }
    if (state.run === run) finish(run, images.length);
  }

  function draw(run, all) {
    replace(
      progress,
      h("progress", { max: all, value: state.rows.length, "aria-label": "Images answered" }),
      h("span", {}, `${count(state.rows.length)} of ${count(all)}`),
      h("button", { onclick: () => run.cancel() }, "Stop"),
    );
    show();
  }

  function finish(run, all) {
    const rows = state.rows;
    const text = run.cancelled ? `Stopped after ${count(rows.length)} of ${count(all)} images.` : `${amount(rows.length, "image")} answered.`;
    replace(progress, h("span", {}, text));
    announce(text);
    controls();
    show();
  }

  function controls() {
    const option = (chosen) => (name) => h("option", { selected: name === chosen }, name);
    const filters = ["all", "unsure", "other than the folder", "not read"];
    replace(
      bar,
      h("label", { class: "field" }, "Order", h("select", { id: "order", onchange: (event) => ((state.order = event.target.value), show()) }, Object.keys(ORDERS).map(option(state.order)))),
      h("label", { class: "field" }, "Show", h("select", { id: "only", onchange: (event) => ((state.only = event.target.value), show()) }, filters.map(option(state.only)))),
      h("button", { onclick: () => save(table(state.rows), "kernelscope.csv") }, "Download CSV"),
    );
  }

  function show() {
    const fits = { all: () => true, unsure: (row) => row.unsure, "other than the folder": (row) => row.agrees === false, "not read": (row) => row.error }[state.only];
    const rows = state.rows.filter(fits).sort(ORDERS[state.order]);
    replace(summary, counts());
    replace(grid, rows.slice(0, SHOWN).map((row) => tile(row, store)));
    if (rows.length > SHOWN) grid.append(h("li", { class: "soft" }, `and ${count(rows.length - SHOWN)} more: the CSV holds them all`));
  }

  function counts() {
    const known = state.rows.filter((row) => row.agrees != null);
    const right = known.filter((row) => row.agrees).length;
    const failed = state.rows.filter((row) => row.error).length;
    const unsure = state.rows.filter((row) => row.unsure).length;
    return h(
      "p",
      { id: "many-summary" },
      known.length ? `${count(right)} of ${count(known.length)} answers (${percent(right / known.length)}) are the folder's name. ` : null,
      `${count(unsure)} unsure. `,
      failed ? `${count(failed)} could not be read.` : null,
    );
  }

  store.follow(["folder", "models"], (files, models) => files && models && start(files, models));
}

function tile(row, store) {
  const look = () => {
    store.set("image", { blob: row.file, name: row.path, url: URL.createObjectURL(row.file) });
    location.hash = "look";
  };
  const kind = row.error ? "failed" : row.agrees === false ? "differs" : row.unsure ? "doubtful" : "";
  return h(
    "li",
    { class: kind, "data-path": row.path },
    h(
      "button",
      { onclick: look, "aria-label": `Look inside: ${row.path}, ${row.error ?? `${row.label} ${percent(row.probability)}`}` },
      h("img", { src: row.url, alt: "", loading: "lazy", decoding: "async" }),
      row.error
        ? h("span", { class: "name" }, "not read: ", row.error)
        : [
            h("span", { class: "name" }, h("b", {}, row.label), " ", percent(row.probability)),
            row.agrees === false ? h("span", { class: "soft small" }, `folder: ${row.folder}`) : null,
            row.unsure ? h("span", { class: "soft small" }, "unsure") : null,
          ],
    ),
  );
}
