/** A table with sorting and pages. On a phone, each row becomes a small card. */

import { useEffect, useState } from "preact/hooks";

import { classes, html } from "../html.js";
import { t } from "../i18n.js";
import { keep, recall } from "../../players/memory.js";
import { IconButton } from "./button.js";
import { Select } from "./field.js";
import { Icon } from "./icon.js";
import { Skeleton } from "./status.js";

/**
 * @template R
 * @typedef {object} Column
 * @property {string} key
 * @property {any} label
 * @property {(row: R) => any} cell           the content of the cell
 * @property {(row: R) => string | number | null | undefined} [sort]  value to sort by; without it the column cannot be sorted
 * @property {boolean} [number]               aligned to the end, with digits of equal width
 * @property {boolean} [actions]              buttons: no label on a phone
 * @property {string} [class]
 */

/** The shown part of a list that the gateway orders and pages. @typedef {{sort: string, limit: number, offset: number}} View */

const SIZES = [25, 50, 100];
const compare = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" }).compare;

/**
 * Returns the sorted rows. sort: a column's key, with "-" before it for descending. Rows without a value come last.
 * @template R
 * @param {R[]} rows
 * @param {Column<R>[]} columns
 * @param {string} sort
 * @returns {R[]}
 */
export function sorted(rows, columns, sort) {
  const down = sort.startsWith("-");
  const by = columns.find((column) => column.key === (down ? sort.slice(1) : sort))?.sort;
  if (!by) return rows;
  const missing = (/** @type {unknown} */ v) => v === null || v === undefined || v === "";
  return [...rows].sort((a, b) => {
    const [x, y] = [by(a), by(b)];
    if (missing(x) || missing(y)) return Number(missing(x)) - Number(missing(y));
    const order = typeof x === "number" && typeof y === "number" ? x - y : compare(String(x), String(y));
    return down ? -order : order;
  });
}

/**
 * @template R
 * @param {{label: string, columns: Column<R>[], rows: R[] | null, keyOf: (row: R) => string, sort?: string, empty?: any,
 *   name?: string, paged?: boolean, rowClass?: (row: R) => string, onOpen?: (row: R) => void,
 *   found?: number, onView?: (view: View) => void}} props
 *   rows: null while they are loading. sort: the initial order. name: key under which page size and order are stored.
 *   found: `rows` are one page of so many rows, in their order; `onView` gets the wanted page.
 *   onOpen: a press anywhere on a row; its first cell should also hold a real link or button, for the keyboard.
 */
export function Table({ label, columns, rows, keyOf, sort: first = "", empty, name, paged = true, rowClass, onOpen,
  found, onView }) {
  const [sort, setSort] = useState(() => (name && recall(`${name}.sort`)) || first);
  const [size, setSize] = useState(() => Number(recall("table.size")) || SIZES[0] || 25);
  const [page, setPage] = useState(0);
  const count = found ?? rows?.length ?? 0;
  const pages = paged ? Math.max(1, Math.ceil(count / size)) : 1;
  const at = Math.min(page, pages - 1);
  useEffect(() => { if (page > at) setPage(at); }, [page, at]);
  useEffect(() => onView?.({ sort, limit: size, offset: at * size }), [sort, size, at]);

  if (rows === null) return html`<div class="table-box"><${Skeleton} lines=${6} height="2.2rem" /></div>`;
  if (count === 0 && empty) return empty;
  const ordered = found === undefined ? sorted(rows, columns, sort) : rows;
  const shown = paged && found === undefined ? ordered.slice(at * size, at * size + size) : ordered;
  const order = (/** @type {string} */ key) => {
    const next = sort === key ? `-${key}` : key;
    setSort(next);
    setPage(0);
    if (name) keep(`${name}.sort`, next);
  };
  const press = (/** @type {MouseEvent} */ event, /** @type {R} */ row) => {
    const target = /** @type {Element} */ (event.target);
    if (target.closest("a, button, input, select, label") || getSelection()?.toString()) return;
    onOpen?.(row);
  };
  return html`<div class="table-box">
    <div class="scroll" tabindex=${columns.length > 6 ? 0 : undefined} role=${columns.length > 6 ? "region" : undefined}
      aria-label=${columns.length > 6 ? label : undefined}>
    <table class="table" aria-label=${label}>
      <thead><tr>${columns.map((column) => {
        const direction = sort === column.key ? "ascending" : sort === `-${column.key}` ? "descending" : undefined;
        return html`<th key=${column.key} scope="col" aria-sort=${column.sort ? direction ?? "none" : undefined}
          class=${classes(column.number && "number", column.class)}>
          ${column.sort
            ? html`<button type="button" class=${classes("sort", direction)} onClick=${() => order(column.key)}>${column.label}
              <${Icon} name=${direction === "descending" ? "down" : "up"} size=${14} /></button>`
            : column.actions ? html`<span class="visually-hidden">${column.label}</span>` : column.label}
        </th>`;
      })}</tr></thead>
      <tbody>${shown.map((row) => html`<tr key=${keyOf(row)} class=${classes(onOpen && "opens", rowClass?.(row))}
        onClick=${onOpen && ((/** @type {MouseEvent} */ event) => press(event, row))}>
        ${columns.map((column) => html`<td key=${column.key}
          class=${classes(column.number && "number", column.actions && "acts", column.class)}
          data-label=${column.actions ? undefined : column.label}><div class="cell">${column.cell(row)}</div></td>`)}
      </tr>`)}</tbody>
    </table>
    </div>
    ${paged && (count > (SIZES[0] ?? 25)) && html`<nav class="paging" aria-label=${t("table.pages")}>
      <${Select} label=${t("table.size")} class="inline" value=${String(size)}
        options=${SIZES.map((n) => ({ value: String(n), label: String(n) }))}
        onChange=${(/** @type {string} */ value) => { setSize(Number(value)); setPage(0); keep("table.size", value); }} />
      <span class="range" aria-live="polite">${t("table.range",
        { from: at * size + 1, to: Math.min(count, at * size + size), count })}</span>
      <span class="steps">
        <${IconButton} icon="first" label=${t("table.first")} disabled=${at === 0} onClick=${() => setPage(0)} />
        <${IconButton} icon="left" label=${t("table.previous")} disabled=${at === 0} onClick=${() => setPage(at - 1)} />
        <${IconButton} icon="right" label=${t("table.next")} disabled=${at >= pages - 1} onClick=${() => setPage(at + 1)} />
        <${IconButton} icon="last" label=${t("table.last")} disabled=${at >= pages - 1} onClick=${() => setPage(pages - 1)} />
      </span>
    </nav>`}
  </div>`;
}
