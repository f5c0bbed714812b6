/** The addresses of a channel, to copy into encoders and players, or to scan as QR codes. */

import { useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { embedCode } from "../../../players/embed.js";
import { keep, recall } from "../../../players/memory.js";
import { expiry, nameOf, protectionOf } from "../../channel.js";
import { ask } from "../../dialog.js";
import { t } from "../../i18n.js";
import { administers } from "../../session.js";
import { toast } from "../../toast.js";
import { Button, Card, CopyField, html, IconLink, LinkButton, Notice } from "../../ui.js";
import { QrFigure } from "../parts/qr.js";
import { SignedAddresses } from "./cloudfront.js";
import { elementCode } from "./element_code.js";
import { Multitrack } from "./multitrack.js";
import { Srt } from "./srt.js";
import { Whip } from "./whip.js";

/** @typedef {import("../../channel.js").Channel} Channel */

/** The player page for each address that browsers can play. */
const PAGES = { flv: "flv.html", hls: "index.html", cmaf: "hls.html", dash: "dash.html", whep: "whep.html", moq: "moq.html" };

/** @type {readonly ["flv", "hls", "cmaf", "dash", "ladder", "wsflv", "whep", "rtmp", "srt", "rtsp", "moq"]} */
const PLAYS = ["flv", "hls", "cmaf", "dash", "ladder", "wsflv", "whep", "rtmp", "srt", "rtsp", "moq"];
const NAMED = /** @type {readonly string[]} */ (PLAYS);

const SHOWN = "keys"; // name of the choice whether stream keys are shown
/** The push addresses that have a label of their own. Those of other protocols are shown with their scheme. */
const PUSHES = ["rtmp", "srt", "ws", "whip"];
const HIDDEN_SIGN = /((?:sign|passphrase)=)[^&"\s]*/g;
const HIDDEN_PASSPHRASE = /(&passphrase=).*/;

/** Replaces the file name of an address and keeps the query, which may contain a signature. @param {string} url @param {string} file */
function beside(url, file) {
  const page = new URL(url);
  page.pathname = page.pathname.replace(/[^/]*$/, file);
  return page.href;
}

/**
 * The image of an address as a QR code. A new expiry creates a new key, so it is loaded again.
 * @param {Channel} channel @param {string} which
 */
const qrOf = (channel, which) =>
  `/videostream/${encodeURIComponent(channel.id)}/qr?url=${which}&of=${encodeURIComponent(channel.key?.split("-")[0] ?? "")}`;

/** Makes a new key with the same expiry; the second after it, because a key follows from its expiry. @param {Channel} channel */
async function renew(channel) {
  const until = expiry(channel);
  const done = until !== null && await ask({
    title: t("push.new.title", { name: nameOf(channel) }), text: t("push.new.text"), confirm: t("push.new"), danger: true,
    run: () => api.put(`/videostream/${encodeURIComponent(channel.id)}`, { outdate: new Date(until.getTime() + 1000).toISOString() }),
  });
  if (done) toast(t("push.new.done"), "ok");
}

/**
 * A page of this computer pushes to its own address, which other computers do not have.
 * @param {string} url @param {string} server  the address for encoders
 * @returns {string} the address with the host for encoders
 */
function forOthers(url, server) {
  const own = new URL(url);
  return /^(localhost|127\..*|\[::1\])$/.test(own.hostname) ? url.replace(own.hostname, new URL(server).hostname) : url;
}

/** The push addresses of protocols that the console has no texts for. @param {Channel} channel @returns {string[]} */
const otherPushes = (channel) => Object.entries(channel.pushUrls ?? {}).filter(([name]) => !PUSHES.includes(name)).map(([, url]) => url);

/** @param {{channel: Channel, onChanged: () => void}} props */
export function Push({ channel, onChanged }) {
  const [shown, setShown] = useState(recall(SHOWN) === "shown");
  const turn = () => {
    keep(SHOWN, shown ? "hidden" : "shown");
    setShown(!shown);
  };
  const line = `ffmpeg -re -i input.mp4 -c copy -f flv "${channel.pushUrl}"`;
  const field = (/** @type {string} */ label, /** @type {string} */ value, /** @type {string} */ hint = "") =>
    html`<${CopyField} label=${label} value=${value} hint=${hint} shown=${shown ? value : value.replace(HIDDEN_SIGN, "$1••••••••")} />`;
  return html`<${Card} title=${t("push.title")} class="is-push" actions=${html`
      <${Button} small icon=${shown ? "eye-off" : "eye"} onClick=${turn}>${t(shown ? "push.hide" : "push.show")}<//>
      ${administers.value && !channel.expired && html`<${Button} small icon="key" title=${t("push.new.text")}
        onClick=${() => void renew(channel).then(onChanged)}>${t("push.new")}<//>`}`}>
    <div class="addresses">
      <div class="stack">
        ${field(t("push.server"), channel.obsServer)}
        ${field(t("push.key"), channel.obsKey, t("push.key.hint"))}
        ${field(t("push.url"), channel.pushUrl)}
        ${channel["wsUrl"] && field(t("push.ws"), forOthers(channel["wsUrl"], channel.obsServer))}
        ${otherPushes(channel).map((url) => field(url.split(":", 1)[0]?.toUpperCase() ?? "", url))}
        ${field(t("push.ffmpeg"), line)}
      </div>
      ${shown && html`<${QrFigure} src=${qrOf(channel, "push")} label=${t("push.qr")} />`}
    </div>
    <${Srt} channel=${channel} field=${field} />
    <${Whip} channel=${channel} field=${field} />
    <${Multitrack} channel=${channel} shown=${shown} />
  <//>`;
}

/**
 * Shares an address with the system's dialog, where the browser has one.
 * @param {string} title @param {string} url
 */
const share = (title, url) => navigator.share({ title, url }).catch((error) => {
  if (error.name !== "AbortError") toast(String(error.message), "bad"); // an abort is the user's choice
});

/** @param {{channel: Channel}} props */
export function Play({ channel }) {
  const urls = channel.playUrls;
  const auth = protectionOf(channel);
  const pages = /** @type {Record<string, string>} */ (PAGES);
  const others = Object.keys(urls).filter((name) => !NAMED.includes(name)); // formats that the console has no texts for
  const playable = urls["flv"] ?? urls["cmaf"] ?? urls["hls"];
  const page = playable && beside(playable, "");
  return html`<${Card} title=${t("play.title")} class="is-play" actions=${page && html`
      ${"share" in navigator && html`<${Button} small icon="relay" onClick=${() => void share(nameOf(channel), page)}>${t("play.share")}<//>`}
      <${LinkButton} small href=${page} icon="external" external>${t("play.open")}<//>`}>
    ${page ? "" : html`<${Notice} kind="info">${t("play.none")}<//>`}
    ${auth === "sign" && html`<p class="hint gap">${t("play.signed")}</p>`}
    ${auth === "cloudfront" && html`<p class="hint gap">${t("play.cloudfront")}</p>`}
    ${auth === "cloudfront" && administers.value && html`<${SignedAddresses} channel=${channel} />`}
    ${page && html`<div class="addresses">
      <div class="stack">
        <${CopyField} label=${t("play.watch")} value=${page} hint=${t("play.watch.hint")} />
        <${CopyField} label=${t("play.embed")} value=${embedCode(page)} hint=${t("play.embed.hint")} />
        <${CopyField} label=${t("play.element")} value=${elementCode(page)} hint=${t("play.element.hint")} />
      </div>
      <${QrFigure} src=${qrOf(channel, "page")} label=${t("play.watch")} />
    </div>`}
    <details class="for-players"><summary>${t("play.players")}</summary>
      <div class="stack">${[...PLAYS, ...others].filter((name) => urls[name]).map((name) => {
        const [url = "", playerPage] = [urls[name], pages[name]];
        const label = NAMED.includes(name) ? t(`play.${name}`) : name;
        return html`<${CopyField} key=${name} label=${label} name=${t("play.copy", { what: label })} value=${url}
          shown=${url.replace(HIDDEN_PASSPHRASE, "$1••••••••")}
          after=${playerPage && html`<${IconLink} icon="external" label=${t("play.page", { what: label })}
            href=${beside(name === "moq" ? urls["whep"] ?? url : url, playerPage)} />`} />`;
      })}</div>
    </details>
  <//>`;
}
