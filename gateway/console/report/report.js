/** The report of a show as elements, for the console and for the page behind a link. Text is always text. */

import { h } from "../players/dom.js";
import { faultName, named, speaking } from "./words.js";

/** @typedef {import("../players/language.js").Language} Language */
/** @typedef {{p50: number | null, p95: number | null}} Quantiles */
/** @typedef {{viewers: number, stalls: number, stallSeconds: number, startup: Quantiles, latency: Quantiles, height: Quantiles}} Totals */
/** @typedef {{start: string, end: string | null, title: string, seconds: number, peak: number, mean: number, watched: number}} Figures */
/**
 * The answer of `GET /videostream/{id}/shows/{show}`.
 * @typedef {Figures & {
 *   id: string, peakAt: string | null, sent: number, incomplete: boolean, before: (Figures & {id: string}) | null,
 *   viewers: {protocol: string, peak: number, mean: number, watched: number}[],
 *   pages: {page: string, players: number}[],
 *   curve: {step: number, viewers: number[]},
 *   experience: {all: Totals, protocols: Record<string, Totals>},
 *   health: {code: string, text: string, from: string, to: string | null}[],
 *   interruptions: {from: string, to: string}[],
 *   refusals: {protocol: string, reason: string, count: number}[],
 *   failures: {at: string, output: string}[],
 *   captions: string[],
 *   cues: {at: string, type: string, seconds: number | null}[],
 *   recordings: {kind: string, start: string, seconds: number | null, bytes: number | null}[],
 *   clips: {kind: string, start: string, seconds: number | null, bytes: number | null}[],
 * }} Report
 */

const NOTHING = "–";
const [WIDTH, HEIGHT] = [720, 140]; // of the curve, in its own units
const SVG = "http://www.w3.org/2000/svg";
/** The names of the addresses in `playUrls`. @type {Record<string, string>} */
const PROTOCOLS = {
  flv: "HTTP-FLV", wsflv: "WS-FLV", rtmp: "RTMP", hls: "HLS", cmaf: "LL-HLS", dash: "DASH", whep: "WebRTC", srt: "SRT",
  rtsp: "RTSP", instant: "Instant", moq: "MoQ", whip: "WHIP", ws: "WebSocket",
};
/** @param {string} name */
const protocolName = (name) => PROTOCOLS[name] ?? name;

/** @param {number} seconds @returns {string}  "12:34", "1:02:03" */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(whole % 60)}`;
}

/**
 * @param {Report} report
 * @param {Language} language
 * @returns {HTMLElement}
 */
export function reportView(report, language) {
  const t = speaking(language);
  // The browser's own locale of this language: it decides between 24 and 12 hours.
  const locale = navigator.languages.find((one) => one.startsWith(language)) ?? language;
  const number = (/** @type {number} */ n, digits = 0) => n.toLocaleString(locale, { maximumFractionDigits: digits });
  const day = (/** @type {string} */ at) => new Date(at).toLocaleString(locale, { dateStyle: "medium", timeStyle: "short" });
  const time = (/** @type {string} */ at) => new Date(at).toLocaleTimeString(locale, { timeStyle: "medium" });
  const both = (/** @type {Quantiles} */ { p50, p95 }, /** @type {number} */ digits) =>
    (p50 === null || p95 === null ? NOTHING : `${number(p50, digits)}\u00a0s · ${number(p95, digits)}\u00a0s`);
  const { before, curve } = report;

  /** @param {"seconds" | "peak" | "mean" | "watched"} name */
  const difference = (name) => {
    if (!before || !before[name]) return null;
    const share = report[name] / before[name] - 1;
    const sign = share > 0.005 ? "▲" : share < -0.005 ? "▼" : "=";
    const size = Math.abs(share).toLocaleString(locale, { style: "percent", maximumFractionDigits: 0 });
    return h("span", { class: "difference" }, sign === "=" ? "=" : `${sign} ${size}`);
  };
  /** @param {string} name @param {string} value @param {...(Node | string | null)} more */
  const figure = (name, value, ...more) => h("div", {}, h("dt", {}, name), h("dd", {}, value, ...more));
  /** @param {string} title @param {...(Node | null)} content */
  const part = (title, ...content) => h("section", { class: "part" }, h("h3", {}, title), ...content);
  /** @param {string} title @param {string[]} heads @param {(string | Node)[][]} rows */
  const table = (title, heads, rows) => h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": title }, h("table", {},
    h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map((cell) => h("td", {}, cell)))))));
  /** @param {string} title @param {string[]} lines */
  const list = (title, lines) => (lines.length ? part(title, h("ul", {}, ...lines.map((line) => h("li", {}, line)))) : null);

  const ended = report.end === null ? h("b", { class: "on-air" }, t("report.live")) : day(report.end);
  const totals = Object.entries(report.experience.protocols);
  const experience = totals.length > 1 ? [...totals, /** @type {[string, Totals]} */ (["", report.experience.all])] : totals;
  const wrong = [
    list(t("report.faults"), report.health.map((fault) =>
      `${time(fault.from)} – ${fault.to === null ? t("report.to.end") : time(fault.to)}: ${faultName(fault, language)}`)),
    list(t("report.paused"), report.interruptions.map(({ from, to }) =>
      `${time(from)} – ${time(to)} (${clock(Math.max(1, (Date.parse(to) - Date.parse(from)) / 1000))})`)),
    list(t("report.failed"), report.failures.map(({ at, output }) => `${time(at)}: ${output}`)),
    list(t("report.refused"), report.refusals.map(({ protocol, reason, count }) =>
      `${number(count)} × ${protocolName(protocol)}: ${named("refused", reason, language)}`)),
  ];
  const made = [
    list(t("report.captions"), report.captions.length ? [report.captions.join(", ")] : []),
    list(t("report.cues"), report.cues.map(({ at, type, seconds }) =>
      `${time(at)}: ${named("cue", type, language)}${seconds === null ? "" : ` · ${clock(seconds)}`}`)),
    list(t("report.recorded"), report.recordings.map((one) => stored(one))),
    list(t("report.clips"), report.clips.map((one) => stored(one))),
  ];
  /** @param {Report["clips"][number]} one @returns {string} */
  function stored({ kind, start, seconds, bytes }) {
    const size = bytes === null ? "" : ` · ${number(bytes / 1e6, 1)}\u00a0MB`;
    return `${time(start)}: ${named("kind", kind, language)}${seconds === null ? "" : ` · ${clock(seconds)}`}${size}`;
  }
  return h("article", { class: "report" },
    h("header", {}, h("h2", {}, report.title), h("p", { class: "soft" }, `${day(report.start)} – `, ended)),
    h("dl", { class: "figures" },
      figure(t("report.duration"), clock(report.seconds), difference("seconds")),
      figure(t("report.peak"), number(report.peak), difference("peak"),
        report.peakAt ? h("small", {}, t("report.peak.at", { time: time(report.peakAt) })) : null),
      figure(t("report.mean"), number(report.mean, 1), difference("mean")),
      figure(t("report.watched"), clock(report.watched), difference("watched")),
      figure(t("report.sent"), report.sent < 1e9 ? `${number(report.sent / 1e6, 1)}\u00a0MB` : `${number(report.sent / 1e9, 2)}\u00a0GB`)),
    before && h("p", { class: "soft" }, t("report.before", { title: before.title, date: day(before.start) })),
    report.peak > 0 && part(t("report.curve"), chart(curve.viewers, t("report.curve")),
      h("p", { class: "axis" }, h("span", {}, time(report.start)), h("span", {}, `0 – ${number(report.peak)}`),
        h("span", {}, time(new Date(Date.parse(report.start) + 1000 * curve.step * curve.viewers.length).toISOString())))),
    part(t("report.viewers"), report.viewers.length
      ? table(t("report.viewers"), [t("report.protocol"), t("report.peak"), t("report.mean"), t("report.watched")],
        report.viewers.map((one) => [protocolName(one.protocol), number(one.peak), number(one.mean, 1), clock(one.watched)]))
      : h("p", { class: "soft" }, t("report.viewers.none"))),
    report.pages.length ? part(t("report.pages"), table(t("report.pages"), [t("report.page"), t("report.players")],
      report.pages.map(({ page, players }) => [named("page", page, language), number(players)]))) : null,
    part(t("report.quality"), h("p", { class: "soft" }, t(experience.length ? "report.quality.text" : "report.quality.none")),
      experience.length ? table(t("report.quality"), [t("report.protocol"), t("report.players"), t("report.start"),
        t("report.delay"), t("report.stalls"), t("report.resolution")], experience.map(([name, one]) => [
        name ? protocolName(name) : "Σ", number(one.viewers), both(one.startup, 2), both(one.latency, 1),
        one.stalls ? `${number(one.stalls)} · ${number(one.stallSeconds, 1)}\u00a0s` : "0",
        one.height.p50 === null ? NOTHING : `${one.height.p50}p`])) : null),
    ...wrong, wrong.some(Boolean) ? null : h("p", { class: "soft" }, t("report.good")),
    ...made,
    report.incomplete && h("p", { class: "soft" }, t("report.incomplete")));
}

/**
 * @param {readonly number[]} values
 * @param {string} label
 * @returns {SVGSVGElement}
 */
function chart(values, label) {
  const most = Math.max(1, ...values);
  const step = WIDTH / Math.max(1, values.length);
  const points = values.map((n, i) => {
    const y = (HEIGHT - (HEIGHT - 4) * n / most).toFixed(1);
    return `${(i * step).toFixed(1)},${y} ${((i + 1) * step).toFixed(1)},${y}`;
  }).join(" ");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  svg.setAttribute("class", "curve");
  const area = document.createElementNS(SVG, "polygon");
  area.setAttribute("points", `0,${HEIGHT} ${points} ${WIDTH},${HEIGHT}`);
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points);
  line.setAttribute("vector-effect", "non-scaling-stroke");
  svg.append(area, line);
  return svg;
}
