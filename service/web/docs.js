/** Every call of the REST interface, as the OpenAPI document tells it. */

import { h, replace } from "./lib/dom.js";
import { json } from "./lib/api.js";
import { problem } from "./lib/problem.js";
import * as theme from "./lib/theme.js";

const main = document.getElementById("main");

async function start() {
  theme.show(theme.chosen());
  try {
    const document = await json("openapi.json");
    replace(main, page(document));
  } catch (error) {
    replace(main, problem(error, start));
  }
}

function page({ info, paths, components }) {
  const calls = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
  );
  const tags = [...new Set(calls.map(({ tags: [tag] = ["other"] }) => tag))];
  return [
    h("h1", {}, `${info.title} ${info.version}`),
    h("p", { class: "lead" }, prose(info.description ?? "")),
    h("p", { class: "soft" }, "The same for programs: ", h("a", { href: "openapi.json" }, "openapi.json"), "."),
    tags.map((tag) => [
      h("h2", {}, tag),
      calls.filter(({ tags: [one] = ["other"] }) => one === tag).map((one) => call(one, components?.schemas ?? {})),
    ]),
  ];
}

function call(operation, schemas) {
  const { path, method, summary, description, parameters = [], requestBody, responses } = operation;
  const body = requestBody ? Object.entries(requestBody.content) : [];
  return h(
    "details",
    { class: "call", id: `${method} ${path}` },
    h("summary", {}, h("span", { class: `method ${method.toLowerCase()}` }, method), " ", h("code", {}, path), " ", h("span", { class: "soft" }, prose((description ?? summary ?? "").split("\n")[0]))),
    (description ?? "").split("\n\n").slice(1).map((text) => h("p", {}, prose(text))),
    parameters.length ? [h("h3", {}, "Parameters"), table(["name", "in", "type", "meaning"], parameters.map((one) => [h("code", {}, one.name), one.in, type(one.schema, schemas), one.description ?? ""]))] : null,
    body.length ? [h("h3", {}, "Body"), table(["content type", "what"], body.map(([kind, { schema }]) => [h("code", {}, kind), shape(schema, schemas)]))] : null,
    h("h3", {}, "Replies"),
    table(["status", "meaning", "content"], Object.entries(responses).map(([status, one]) => [status, one.description ?? "", contents(one, schemas)])),
    h("h3", {}, "From a shell"),
    example(operation, body),
  );
}

function contents({ content = {} }, schemas) {
  return Object.entries(content).map(([kind, { schema }]) => h("div", {}, h("code", {}, kind), " ", schema ? shape(schema, schemas) : null));
}

function example({ path, method }, body) {
  const root = new URL(".", document.baseURI).href.replace(/\/$/, "");
  const flags = { "multipart/form-data": " -F file=@image.jpg", "application/json": " -H 'Content-Type: application/json' -d @request.json" };
  const given = body.map(([kind]) => flags[kind]).find(Boolean) ?? (method === "GET" || !body.length ? (method === "GET" ? "" : ` -X ${method}`) : " --data-binary @image.jpg");
  return h("pre", { tabindex: "0" }, h("code", {}, `curl${given} '${root}${path}'`));
}

/** A schema as people read it: its name opens to its properties. */
function shape(schema, schemas, seen = []) {
  const name = schema.$ref?.split("/").at(-1);
  const real = name ? schemas[name] : schema;
  if (!real) return "";
  if (real.properties && !seen.includes(name)) {
    const rows = Object.entries(real.properties).map(([key, one]) => [
      h("code", {}, key),
      type(one, schemas),
      one.description ?? "",
    ]);
    return h("details", { class: "shape" }, h("summary", {}, name ?? real.title ?? "object"), table(["field", "type", "meaning"], rows));
  }
  return type(schema, schemas);
}

function type(schema = {}, schemas) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return options.filter((one) => one.type !== "null").map((one) => type(one, schemas)).join(" or ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(", ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${type(schema.items, schemas)}`;
  if (schema.format === "binary") return "a file's bytes";
  const range = [schema.minimum ?? schema.exclusiveMinimum, schema.maximum ?? schema.exclusiveMaximum];
  const limits = range.some((one) => one !== undefined) ? ` (${range[0] ?? "…"} to ${range[1] ?? "…"})` : "";
  return `${schema.type ?? "anything"}${limits}`;
}

function table(head, rows) {
  return h(
    "div",
    { class: "wide" },
    h("table", {}, h("thead", {}, h("tr", {}, head.map((one) => h("th", { scope: "col" }, one)))), h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell)))))),
  );
}

/** Text with `code` in it. */
function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

start();
