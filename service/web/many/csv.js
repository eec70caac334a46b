/** Comma-separated values (RFC 4180) of what was answered. */

const COLUMNS = ["file", "folder", "label", "probability", "unsure", "agrees", "error"];

/** The rows as text, the head first. */
export function table(rows) {
  const lines = rows.map((row) => [row.path, row.folder, row.label, row.error ? null : row.probability, row.unsure, row.agrees, row.error]);
  return [COLUMNS, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** A spreadsheet takes what begins so for a formula, whatever quotes are around it. */
const FORMULA = /^[=+@\t\r-]/;

function cell(value) {
  if (value == null) return "";
  const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Hand text to the person as a file. */
export function save(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
