/** Writes rows as a CSV file, so that spreadsheets read text and numbers, never formulas. */

/**
 * A column of the file.
 * @template T
 * @typedef {object} Column
 * @property {string} title
 * @property {(row: T) => unknown} value  numbers stay numbers, null and undefined are empty
 */

/**
 * @template T
 * @param {readonly Column<T>[]} columns
 * @param {readonly T[]} rows
 * @returns {string}  RFC 4180: quoted where needed, CRLF at each end
 */
export function csv(columns, rows) {
  const lines = [columns.map((column) => cell(column.title))];
  for (const row of rows) lines.push(columns.map((column) => cell(column.value(row))));
  return lines.map((line) => `${line.join(",")}\r\n`).join("");
}

/**
 * @param {unknown} value
 * @returns {string}
 */
export function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const text = Array.isArray(value) ? value.join(" ") : typeof value === "object" ? JSON.stringify(value) : String(value);
  // Spreadsheets run a cell with such a beginning as a formula, and some of them also after spaces. The apostrophe
  // makes it text.
  const safe = /^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/.test(text) ? `'${text}` : text;
  return /[",\r\n\t']|^\s|\s$/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/**
 * Downloads a file in the browser.
 * @param {string} name
 * @param {string} text
 * @param {string} [type]
 */
export function save(name, text, type = "text/csv;charset=utf-8") {
  // The byte order mark tells Excel that this is UTF-8.
  const url = URL.createObjectURL(new Blob(["\ufeff", text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  // Some browsers read the address a little after the click, so it is revoked later.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
