/** Plays a live channel in the console, in any of its formats, with the engines of the player pages. */

import { useEffect, useRef, useState } from "preact/hooks";

import { loadDash, loadFlv, loadHls } from "../players/engines.js";
import { mayEmbed } from "./channel.js";
import { t } from "./i18n.js";
import { isForbidden } from "./policy.js";
import { offline } from "./session.js";
import { Button, html, Tabs } from "./ui.js";

/** @typedef {import("../players/types.js").Engine} Engine */
/** @typedef {import("../players/types.js").Status} Status */
/** @typedef {import("./channel.js").Channel} Channel */

/**
 * @typedef {object} Format
 * @property {string} id       the address's name in a channel's `playUrls`
 * @property {string} label
 * @property {string} output   its name in the status of the playback listener; the ladder has its own entry there
 * @property {() => Promise<import("../players/engines.js").Loaded>} load
 */

/** @type {Format[]} */
export const FORMATS = [
  { id: "flv", label: "HTTP-FLV", output: "flv", load: loadFlv },
  { id: "hls", label: "HLS", output: "hls", load: () => loadHls(false) },
  { id: "cmaf", label: "LL-HLS", output: "cmaf", load: () => loadHls(true) },
  { id: "dash", label: "DASH", output: "cmaf", load: loadDash },
  { id: "ladder", label: "ABR", output: "codec", load: () => loadHls(false) },
];

/**
 * @typedef {"waiting" | "starting" | "playing" | "denied" | "signed" | "elsewhere" | "mixed" | "off" | "codec" | "lost"
 *   | "broken" | "stopped" | "reload"} State
 */

const ASK_AGAIN = 1000; // ms between two requests for media that are not ready yet
const TRY_AGAIN = 2500; // ms before a new try after an error
const LOOK = 1000;      // ms between two checks whether the picture stands still
const ASK_WHY = 3;      // checks between two requests for the reason

/**
 * @param {{channel: Channel, live: boolean}} props  live: while it is false, nothing is requested, so that no request fails
 */
export function Preview({ channel, live }) {
  const offered = FORMATS.filter((format) => channel.playUrls[format.id]);
  const [chosen, setChosen] = useState("");
  const format = offered.find((one) => one.id === chosen) ?? offered[0];
  const video = useRef(/** @type {HTMLVideoElement | null} */ (null));
  const engine = useRef(/** @type {Engine | null} */ (null));
  const [state, setState] = useState(/** @type {State} */ ("waiting"));
  const [detail, setDetail] = useState("");
  const [figures, setFigures] = useState({ delay: NaN, width: 0, height: 0, dropped: 0 });
  // A protected channel's addresses get a new signature with every answer; the next try uses the latest.
  const latest = useRef(channel);
  latest.current = channel;

  useEffect(() => {
    const element = video.current;
    if (!format || !element) return setState("off");
    if (!live) return setState("waiting");
    const stopped = new AbortController();
    const { signal } = stopped;
    const show = (/** @type {State} */ next, words = "") => { if (!signal.aborted) { setState(next); setDetail(words); } };
    element.addEventListener("timeupdate", () => { if (element.readyState >= 2 && !element.paused) show("playing"); }, { signal });
    element.addEventListener("canplay", () => { element.play().catch(() => undefined); /* the user can start it with the controls */ },
      { signal });
    let [shown, stands] = [-1, 0];
    const look = setInterval(async () => {
      stands = engine.current && !element.paused && !document.hidden && element.currentTime === shown ? stands + 1 : 0;
      shown = element.currentTime;
      const url = latest.current.playUrls[format.id];
      if (!url || stands % ASK_WHY !== 1) return;
      const answer = await ask(url, signal);
      if (typeof answer === "object" && answer.state === "lingering" && element.currentTime === shown) show("broken");
    }, LOOK);
    signal.addEventListener("abort", () => clearInterval(look));
    show("starting");
    run(format, element).catch((error) => { if (!signal.aborted) show("lost", String(error?.message ?? error)); });

    /** @param {Format} format @param {HTMLVideoElement} element */
    async function run(format, element) {
      const { open, unsupported } = await format.load();
      if (unsupported !== null) return show("codec", t("preview.missing", { feature: unsupported }));
      while (!signal.aborted) {
        const url = latest.current.playUrls[format.id];
        if (!url) return show("off");
        // Does not request media that the gateway would surely refuse.
        if (latest.current["playAuth"] === "cloudfront") return show("signed");
        if (!mayEmbed(latest.current, url)) return show("elsewhere");
        if (location.protocol === "https:" && url.startsWith("http:")) return show("mixed");
        const answer = await ask(url, signal);
        if (signal.aborted) return;
        if (answer === "denied") return show("denied");
        if (answer === "away" && isForbidden(url)) return show("reload");
        if (answer === "away") show("lost");
        else if (answer.live && (format.id === "ladder" ? Boolean(answer.ladder)
          : (answer.ready ?? answer.outputs).includes(format.output))) {
          const ahead = typeof answer.now === "number" ? answer.now - Date.now() : 0;
          const renew = async () => {
            const again = await ask(url, signal);
            return typeof again === "object" ? again : null;
          };
          const one = open(element, url, () => Date.now() + ahead, { status: answer, renew });
          engine.current = one;
          const end = () => one.close();
          signal.addEventListener("abort", end);
          const outcome = await one.outcome;
          signal.removeEventListener("abort", end);
          one.close();
          engine.current = null;
          if (outcome.why === "denied" || outcome.why === "codec") return show(outcome.why, outcome.detail);
          show(outcome.why === "ended" ? "waiting" : "lost");
          await pause(TRY_AGAIN, signal);
        } else show("starting");
        await pause(ASK_AGAIN, signal);
      }
    }
    return () => {
      stopped.abort();
      engine.current?.close();
      engine.current = null;
    };
  }, [format?.id, live]);

  useEffect(() => {
    const timer = setInterval(() => {
      const element = video.current;
      if (!element || !engine.current) return;
      setFigures({
        delay: engine.current.delay() ?? NaN, width: element.videoWidth, height: element.videoHeight,
        dropped: element.getVideoPlaybackQuality?.().droppedVideoFrames ?? 0,
      });
    }, 1000);
    return () => clearInterval(timer);
  }, []);

  const playing = state === "playing";
  return html`<div class="preview">
    ${offered.length > 1 && html`<${Tabs} label=${t("preview.format")} panel="preview-stage" value=${format?.id ?? ""} onChange=${setChosen}
      tabs=${offered.map((one) => ({ value: one.id, label: one.label }))} />`}
    <div class="stage" id="preview-stage" data-state=${state} role=${offered.length > 1 ? "tabpanel" : undefined}
      aria-label=${format?.label}>
      <video ref=${video} muted playsinline controls aria-label=${t("preview.video")}></video>
      <div class="veil" role="status"><strong>${playing ? "" : state === "lost" && offline.value ? t("away.offline") : t(`preview.${state}`)}</strong>
        ${!playing && detail && html`<span>${detail}</span>`}
        ${state === "reload" && html`<${Button} icon="refresh" onClick=${() => location.reload()}>${t("preview.reload.do")}<//>`}</div>
    </div>
    <p class="figures">
      <span>${t("preview.delay")} <b>${Number.isFinite(figures.delay) && playing ? `${figures.delay.toFixed(1)} s` : "–"}</b></span>
      <span>${t("preview.picture")} <b>${figures.width && playing ? `${figures.width} × ${figures.height}` : "–"}</b></span>
      <span>${t("preview.dropped")} <b>${playing ? figures.dropped : "–"}</b></span>
      <${Button} kind="quiet" small disabled=${!playing} onClick=${() => engine.current?.toLive?.()}>${t("preview.newest")}<//>
    </p>
  </div>`;
}

/**
 * Asks the playback listener which outputs of the stream are ready. Its answer is never "not found".
 * @param {string} url  of the media
 * @param {AbortSignal} signal
 * @returns {Promise<Status | "denied" | "away">}
 */
async function ask(url, signal) {
  const status = new URL(url);
  status.pathname = status.pathname.replace(/[^/]*$/, "status.json");
  try {
    const reply = await fetch(status, { cache: "no-store", signal });
    if (reply.status === 401 || reply.status === 403) return "denied";
    return reply.ok ? await reply.json() : "away";
  } catch {
    return "away"; // also if it was aborted; the caller checks the signal
  }
}

/** @param {number} ms @param {AbortSignal} signal */
function pause(ms, signal) {
  return new Promise((done) => {
    if (signal.aborted) return done(undefined);
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); done(undefined); }, { once: true });
  });
}
