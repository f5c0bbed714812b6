/** The videos of a playlist by their names, in the order of playing, with the times of day at which they begin. */

import { useLayoutEffect, useRef, useState } from "preact/hooks";

import { t } from "../../i18n.js";
import { Field, html, IconButton } from "../../ui.js";

/** @typedef {{value: string, label: string}} Option */

const TIME = /@(\d{1,2}:\d{2}(?::\d{2})?)$/;

/** @param {string} item @returns {string} its time of day, as an input has it; "": none */
const timeOf = (item) => (TIME.exec(item)?.[1] ?? "").replace(/^\d:/, "0$&");

/**
 * @param {{items: readonly string[], options: readonly Option[], error: string | undefined, onChange: (items: string[]) => void}} props
 *   items: keys, each with its time of day behind an "@". options: the known videos. error: of the list
 */
export function PlaylistItems({ items, options, error, onChange }) {
  const [typed, setTyped] = useState(/** @type {string | null} */ (null)); // the list as a text, while it is edited
  const change = (/** @type {string[]} */ next) => { setTyped(null); onChange(next); };
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const moved = useRef(/** @type {{to: number, down: boolean} | null} */ (null)); // the item whose button was pressed
  const move = (/** @type {number} */ from, /** @type {number} */ to) => {
    const next = items.filter((_, at) => at !== from);
    next.splice(to, 0, items[from] ?? "");
    moved.current = { to, down: to > from };
    change(next);
  };
  useLayoutEffect(() => { // the focus goes with the item; at the end of the list only the other button is left
    if (moved.current === null) return;
    const { to, down } = moved.current;
    moved.current = null;
    const [up, lower] = list.current?.children[to]?.querySelectorAll("button") ?? [];
    const [wanted, other] = down ? [lower, up] : [up, lower];
    (wanted?.disabled ? other : wanted)?.focus();
  }, [items]);
  const retime = (/** @type {number} */ at, /** @type {string} */ time) => change(items.map((item, i) =>
    (i === at ? item.replace(TIME, "") + (time && `@${time}`) : item)));
  const type = (/** @type {string} */ text) => {
    setTyped(text);
    onChange(text.split("\n").map((line) => line.trim()).filter(Boolean));
  };
  return html`<div class="field"><span class="label" id="playlist-items">${t("inputs.items.order")}</span>
    ${items.length === 0 && html`<p class="hint">${t("inputs.items.empty")}</p>`}
    <ol ref=${list} class="playlist" aria-labelledby="playlist-items">${items.map((item, i) => {
      const key = item.replace(TIME, "");
      const name = options.find(({ value }) => value === key)?.label ?? key;
      return html`<li key=${i}>
        <span class="grow">${name}</span>
        <input type="time" aria-label=${t("inputs.items.time", { name })} value=${timeOf(item)}
          onChange=${(/** @type {Event} */ event) => retime(i, /** @type {HTMLInputElement} */ (event.target).value)} />
        <${IconButton} icon="up" label=${t("inputs.items.up", { name })} disabled=${i === 0} onClick=${() => move(i, i - 1)} />
        <${IconButton} icon="down" label=${t("inputs.items.down", { name })} disabled=${i === items.length - 1}
          onClick=${() => move(i, i + 1)} />
        <${IconButton} icon="close" label=${t("inputs.items.remove", { name })}
          onClick=${() => change(items.filter((_, at) => at !== i))} />
      </li>`;
    })}</ol>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <details onToggle=${(/** @type {Event} */ event) =>
      { if (!/** @type {HTMLDetailsElement} */ (event.target).open) setTyped(null); }}>
      <summary>${t("inputs.items.text")}</summary>
      <${Field} label=${t("inputs.items.label")} name="items" value=${typed ?? items.join("\n")} rows=${5} hint=${t("inputs.items.hint")}
        spellcheck=${false} onInput=${type} />
    </details>
  </div>`;
}
