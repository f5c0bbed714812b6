/** The card of one recording: its picture, with name and time below. */

import { useEffect, useRef, useState } from "preact/hooks";

import { bytes, duration, moment } from "../../format.js";
import { t } from "../../i18n.js";
import { classes } from "../../html.js";
import { Badge, html, Icon } from "../../ui.js";

/** @typedef {import("./feed.js").Recording} Recording */

/** @type {Readonly<Record<Recording["kind"], import("../../kit/icon.js").IconName>>} */
export const ICONS = { video: "recordings", ondemand: "films", clip: "record", motion: "camera", image: "image" };

/**
 * @param {{item: Recording, name: string, growing: boolean, onOpen: () => void, of?: number, children?: any,
 *   picked?: boolean | undefined, onPick?: (picked: boolean) => void}} props
 *   name: of the channel. growing: it is being recorded. of: the number of files of its show, if it stands for them.
 *   picked: undefined: it cannot be selected now
 */
export function RecordingCard({ item, name, growing, onOpen, of = 1, children, picked, onPick }) {
  const what = t(`recordings.kind.${item.kind}`);
  const when = moment(item.start, { seconds: true });
  return html`<article class=${classes("shelf-card", of > 1 && "stacked")}>
    <div class="shelf-frame">
      <button type="button" class="shelf-open" onClick=${onOpen}
        aria-label=${t(item.kind === "image" ? "recordings.showOf" : "recordings.playOf", { what, name, when })}>
        <${Poster} item=${item} />
      </button>
      ${item.seconds !== null && html`<span class="shelf-time">${duration(item.seconds)}</span>`}
      ${(growing || item.hidden) && html`<span class="shelf-badge">
        ${growing ? html`<${Badge} kind="live" dot>${t("recordings.growing")}<//>` : html`<${Badge} kind="idle">${t("session.isHidden")}<//>`}</span>`}
      ${picked !== undefined && html`<label class="shelf-pick"><input type="checkbox" checked=${picked}
        aria-label=${t("recordings.pickOf", { what, name, when })}
        onChange=${(/** @type {Event} */ event) => onPick?.(/** @type {HTMLInputElement} */ (event.target).checked)} /></label>`}
    </div>
    <div class="shelf-words">
      <b title=${item.title || name} dir="auto">${item.title || name}</b>
      <time datetime=${item.start}>${when}</time>
      <span class="soft"><${Icon} name=${ICONS[item.kind]} size=${14} /> ${of > 1 ? t("recordings.ofShow", { n: of }) : what}${
        item.kind === "ondemand" || of > 1 ? "" : ` · ${bytes(item.size)}`}</span>
      ${children}
    </div>
  </article>`;
}

/**
 * The picture of a recording: its poster, its first second, or an icon of its kind. Loaded when it comes into view.
 * @param {{item: Recording}} props
 */
function Poster({ item }) {
  const place = useRef(/** @type {HTMLSpanElement | null} */ (null));
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const { current } = place;
    if (current === null) return undefined;
    const watch = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      setSeen(true);
      watch.disconnect();
    }, { rootMargin: "200px" });
    watch.observe(current);
    return () => watch.disconnect();
  }, []);
  const picture = item.kind === "image" ? item.url : item.poster;
  return html`<span class="shelf-picture" ref=${place}>
    <${Icon} name=${ICONS[item.kind]} size=${34} />
    ${seen && picture && html`<img src=${picture} alt="" decoding="async"
      onError=${(/** @type {Event} */ event) => { /** @type {HTMLElement} */ (event.target).hidden = true; }} />`}
    ${seen && !picture && item.kind !== "ondemand" && html`<video src=${`${item.url}#t=0.5`} preload="metadata" muted playsinline
      tabindex="-1" aria-hidden="true"></video>`}
    ${item.kind !== "image" && html`<span class="shelf-play"><${Icon} name="play" size=${22} /></span>`}
  </span>`;
}
