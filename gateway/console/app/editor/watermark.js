/** Sets the position of the watermark by dragging it over the picture, in pixels of the stream. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { t } from "../i18n.js";
import { Button, html } from "../ui.js";

/** @typedef {import("./fields.js").Draft} Draft */
/** @typedef {{width: number, height: number}} Size */

const UNPLACED = "10 10"; // the defaults of left and top
const EDGE = 0.02; // distance between a corner and the watermark, as a share of the picture's height

/**
 * Converts a colour of the gateway's syntax for the browser.
 * @param {string} text  a name, #rgb to #rrggbbaa, 0x…, each perhaps with `@opacity`
 * @returns {{color: string, opacity: number}}
 */
export function cssColor(text) {
  const [name = "", alpha] = text.trim().toLowerCase().split("@");
  const digits = /^(?:0x|#)?([0-9a-f]{6}|[0-9a-f]{8})$/.exec(name)?.[1] ?? /^(?:0x|#)([0-9a-f]{3,4})$/.exec(name)?.[1];
  const opacity = alpha === undefined ? 1 : alpha.startsWith("0x") ? parseInt(alpha, 16) / 255 : Number(alpha);
  return { color: digits ? `#${digits}` : name || "red", opacity: Number.isFinite(opacity) ? Math.min(1, Math.max(0, opacity)) : 1 };
}

/**
 * Returns the position at the bottom right, which no control of the players covers.
 * @param {Size} size  of the stream
 * @param {Size} mark  of the watermark, in its pixels
 * @returns {{left: number, top: number}}
 */
export function bottomRight(size, mark) {
  const edge = Math.round(size.height * EDGE);
  return { left: Math.max(0, Math.round(size.width - mark.width - edge)), top: Math.max(0, Math.round(size.height - mark.height - edge)) };
}

const figure = (/** @type {string} */ text, /** @type {number} */ absent) =>
  (text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : absent);

/**
 * @param {{draft: Draft, size: Size, isNew: boolean, picture: string | null, pictureOrigins: string[],
 *   onMove: (left: number, top: number) => void}} props
 *   size: of the stream, pixels. isNew: whether it is placed at the bottom right until the user moves it. picture: address
 *   of the latest picture, null if none. pictureOrigins: origins from which this page may show pictures.
 */
export function WatermarkStage({ draft, size, isNew, picture, pictureOrigins, onMove }) {
  const stage = useRef(/** @type {HTMLElement | null} */ (null));
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [width, setWidth] = useState(0);
  const [shown, setShown] = useState(false);
  const held = useRef(/** @type {{x: number, y: number, left: number, top: number} | null} */ (null));
  const scale = width / size.width;
  const [left, top] = [figure(draft["WaterMarkLeft"], 10), figure(draft["WaterMarkTop"], 10)];
  const withText = draft["isWaterMark"] && draft["WaterMarkText"] !== "";
  const withPicture = draft["isImageWaterMark"] && draft["ImageURL"].trim() !== "";
  const { color, opacity } = cssColor(draft["WaterMarkFontColor"]);

  useLayoutEffect(() => {
    const element = stage.current;
    if (!element) return undefined;
    const watch = new ResizeObserver(() => setWidth(element.clientWidth));
    watch.observe(element);
    setWidth(element.clientWidth);
    return () => watch.disconnect();
  }, []);
  useEffect(() => setShown(false), [picture]);
  const own = useRef(""); // the position that this page chose
  const now = `${draft["WaterMarkLeft"]} ${draft["WaterMarkTop"]}`;
  useLayoutEffect(() => {
    if (!isNew || !(withText || withPicture) || !box.current || scale <= 0 || now !== (own.current || UNPLACED)) return;
    const at = bottomRight(size, { width: box.current.offsetWidth / scale, height: box.current.offsetHeight / scale });
    own.current = `${at.left} ${at.top}`;
    if (own.current !== now) onMove(at.left, at.top);
  });

  /** Limits a position to the picture, in whole pixels. @param {number} x @param {number} y */
  const move = (x, y) => {
    const most = { x: Math.max(0, size.width - 1), y: Math.max(0, size.height - 1) };
    onMove(Math.round(Math.min(most.x, Math.max(0, x))), Math.round(Math.min(most.y, Math.max(0, y))));
  };
  const grab = (/** @type {PointerEvent} */ event) => {
    held.current = { x: event.clientX, y: event.clientY, left, top };
    /** @type {Element} */ (event.currentTarget).setPointerCapture(event.pointerId);
    event.preventDefault();
    /** @type {HTMLElement} */ (event.currentTarget).focus();
  };
  const drag = (/** @type {PointerEvent} */ event) => {
    if (!held.current || scale <= 0) return;
    const { x, y, left: from, top: above } = held.current;
    move(from + (event.clientX - x) / scale, above + (event.clientY - y) / scale);
  };
  const letGo = () => { held.current = null; };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    const step = event.shiftKey ? 10 : 1;
    /** @type {Record<string, [number, number]>} */
    const arrows = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const by = arrows[event.key];
    if (!by) return;
    event.preventDefault();
    move(left + by[0], top + by[1]);
  };
  /** Moves the watermark to a corner or the middle. x, y: share of the free space, 0 to 1. @param {number} x @param {number} y */
  const place = (x, y) => {
    const edge = Math.round(size.height * EDGE);
    const [w, h] = box.current && scale > 0 ? [box.current.offsetWidth / scale, box.current.offsetHeight / scale] : [0, 0];
    move(edge + x * Math.max(0, size.width - w - 2 * edge), edge + y * Math.max(0, size.height - h - 2 * edge));
  };
  const url = withPicture ? draft["ImageURL"].trim() : "";
  const visible = URL.canParse(url) && pictureOrigins.includes(new URL(url).origin);
  const imageBox = { width: `${figure(draft["ImageWidth"], 100) * scale}px`, height: `${figure(draft["ImageHeight"], 50) * scale}px` };
  return html`<div class="watermark">
    <div class="watermark-stage" ref=${stage} style=${{ aspectRatio: `${size.width} / ${size.height}` }}>
      ${picture && html`<img class=${`backdrop ${shown ? "there" : ""}`} src=${picture} alt="" onLoad=${() => setShown(true)}
        onError=${() => setShown(false)} />`}
      ${!shown && html`<div class="frame" aria-hidden="true"><span>${size.width} × ${size.height}</span></div>`}
      ${width > 0 && html`<div class="mark" role="group" tabindex="0" ref=${box}
          style=${{ left: `${left * scale}px`, top: `${top * scale}px` }}
          aria-label=${t("watermark.handle", { left, top })} onPointerDown=${grab} onPointerMove=${drag} onPointerUp=${letGo}
          onPointerCancel=${letGo} onKeyDown=${keys}>
        ${withPicture && (visible
          ? html`<img src=${url} alt="" draggable=${false} style=${imageBox} />`
          : html`<span class="picture" style=${imageBox}></span>`)}
        ${withText && html`<span class=${withPicture ? "text over" : "text"}
          style=${{ fontSize: `${figure(draft["WaterMarkFontSize"], 24) * scale}px`, color, opacity }}>${draft["WaterMarkText"]}</span>`}
        ${!withText && !withPicture && html`<span class="text none">${t("watermark.nothing")}</span>`}
      </div>`}
    </div>
    <div class="row places"><span class="soft">${t("watermark.place")}</span>
      ${/** @type {const} */ ([["topleft", 0, 0], ["topright", 1, 0], ["centre", 0.5, 0.5], ["bottomleft", 0, 1],
        ["bottomright", 1, 1]]).map(([name, x, y]) => html`
        <${Button} key=${name} small onClick=${() => place(x, y)}>${t(`watermark.${name}`)}<//>`)}
    </div>
  </div>`;
}
