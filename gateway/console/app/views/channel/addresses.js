/** The addresses of a channel, to copy into encoders and players, or to scan as QR codes. */

import { useState } from "preact/hooks";

import { t } from "../../i18n.js";
import { Card, CopyField, html, Icon, Notice } from "../../ui.js";

/** @typedef {import("../../channel.js").Channel} Channel */

/** The player page for each address that browsers can play. */
const PAGES = { flv: "flv.html", hls: "index.html", cmaf: "hls.html", dash: "dash.html" };

/** @type {readonly ["flv", "hls", "cmaf", "dash", "ladder", "wsflv", "rtmp"]} */
const PLAYS = ["flv", "hls", "cmaf", "dash", "ladder", "wsflv", "rtmp"];
const NAMED = /** @type {readonly string[]} */ (PLAYS);

/** Replaces the file name of an address and keeps the query, which may contain a signature. @param {string} url @param {string} file */
function beside(url, file) {
  const page = new URL(url);
  page.pathname = page.pathname.replace(/[^/]*$/, file);
  return page.href;
}

/**
 * An address as a QR code. Its space is reserved until the image is loaded.
 * @param {{channel: Channel, which: string, label: string}} props
 */
function QrCode({ channel, which, label }) {
  const [state, setState] = useState("loading");
  if (state === "failed") return null;
  // A new expiry creates a new key, so the image is loaded again.
  const src = `/videostream/${encodeURIComponent(channel.id)}/qr?url=${which}&of=${encodeURIComponent(channel.key.split("-")[0] ?? "")}`;
  return html`<figure class="qr"><span class="paper">
    <img key=${src} class=${state} src=${src} width="132" height="132" alt=${t("qr.alt", { what: label })}
    onLoad=${() => setState("there")} onError=${() => setState("failed")} /></span><figcaption>${label}</figcaption></figure>`;
}

/** @param {{channel: Channel}} props */
export function Push({ channel }) {
  const ws = channel["wsUrl"];
  const line = `ffmpeg -re -i input.mp4 -c copy -f flv "${channel.pushUrl}"`;
  return html`<${Card} title=${t("push.title")} class="is-push">
    <div class="addresses">
      <div class="stack">
        <${CopyField} label=${t("push.server")} value=${channel.obsServer} />
        <${CopyField} label=${t("push.key")} value=${channel.obsKey} hint=${t("push.key.hint")} />
        <${CopyField} label=${t("push.url")} value=${channel.pushUrl} />
        ${ws && html`<${CopyField} label=${t("push.ws")} value=${ws} />`}
        <${CopyField} label=${t("push.ffmpeg")} value=${line} />
      </div>
      <${QrCode} channel=${channel} which="push" label=${t("push.qr")} />
    </div>
  <//>`;
}

/** @param {{channel: Channel}} props */
export function Play({ channel }) {
  const urls = channel.playUrls;
  const auth = channel["playAuth"];
  const pages = /** @type {Record<string, string>} */ (PAGES);
  const others = Object.keys(urls).filter((name) => !NAMED.includes(name)); // formats that the console has no texts for
  return html`<${Card} title=${t("play.title")} class="is-play">
    ${urls["flv"] || urls["hls"] || urls["cmaf"] ? "" : html`<${Notice} kind="info">${t("play.none")}<//>`}
    ${auth === "sign" && html`<p class="hint gap">${t("play.signed")}</p>`}
    ${auth === "cloudfront" && html`<p class="hint gap">${t("play.cloudfront")}</p>`}
    <div class="addresses">
      <div class="stack">${[...PLAYS, ...others].filter((name) => urls[name]).map((name) => {
        const [url = "", page] = [urls[name], pages[name]];
        const label = NAMED.includes(name) ? t(`play.${name}`) : name;
        return html`<${CopyField} key=${name} label=${label} name=${t("play.copy", { what: label })} value=${url}
          after=${page && html`<a class="button quiet icon-only" href=${beside(url, page)} target="_blank" rel="noopener"
            aria-label=${t("play.page", { what: label })} title=${t("play.page", { what: label })}><${Icon} name="external" /></a>`} />`;
      })}</div>
      <div class="qrs">
        ${urls["flv"] && html`<${QrCode} key="flv" channel=${channel} which="flv" label=${t("play.flv")} />`}
        ${urls["hls"] && html`<${QrCode} key="hls" channel=${channel} which="hls" label=${t("play.hls")} />`}
      </div>
    </div>
  <//>`;
}
