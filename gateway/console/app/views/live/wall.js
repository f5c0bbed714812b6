/** All live channels as pictures with their health, delay and viewers, for a screen on the wall. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { keyOf } from "../../../players/keyboard.js";
import { showTheme } from "../../../players/theme.js";
import { onSlate, sessionState } from "../../channel.js";
import { number } from "../../format.js";
import { t } from "../../i18n.js";
import { usePoll } from "../../poll.js";
import { channelHref } from "../../router.js";
import { awayText, readsAll, unreachable } from "../../session.js";
import { theme } from "../../theme.js";
import { toast } from "../../toast.js";
import { Button, classes, Empty, html, Icon, IconButton, PageHead, Skeleton } from "../../ui.js";
import { InputPicture } from "../channel/input_picture.js";
import { nameOf } from "../parts/channels.js";
import { faultText } from "../parts/health.js";
import { Trouble } from "../parts/trouble.js";
import { ONLINE, sum } from "./model.js";
import { fit } from "./wall_grid.js";

export { default as words } from "../../words/live.js";

/** @typedef {import("./model.js").Session} Session */

const EVERY = 5000;           // ms
const PICTURE_EVERY = 10_000; // ms

/** The pages that a key leads forward; -Infinity: to the first. @type {Readonly<Record<string, number>>} */
const KEYS = {
  ArrowRight: 1, ArrowDown: 1, PageDown: 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1, Home: -Infinity, End: Infinity,
};

/** @param {Session} session */
const faults = (session) => (session.health ?? []).filter(({ level }) => level !== "notice");

/** Whether viewers miss something now. @param {Session} session */
const ails = (session) => faults(session).length > 0 || session.state !== "live" || onSlate(session);

/** @param {Session} a @param {Session} b */
const byName = (a, b) => nameOf(a).localeCompare(nameOf(b)) || a.id.localeCompare(b.id);

export default function Wall() {
  /** @type {import("../../poll.js").PolledSignal<Session[]>} */
  const online = usePoll(ONLINE, EVERY);
  const [wanted, setPage] = useState(0);
  const [room, setRoom] = useState({ width: 0, height: 0 });
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const { data, error } = online.value;
  const sessions = [...data ?? []].sort(byName);
  const { columns, rows } = fit(sessions.length, room.width, room.height);
  const pages = Math.ceil(sessions.length / (columns * rows)) || 1;
  const page = Math.min(wanted, pages - 1);
  // A fault must not be out of sight. Otherwise each channel keeps its place.
  if (pages > 1) sessions.sort((a, b) => Number(ails(b)) - Number(ails(a)));
  // From the page at that moment: the listener of keys is renewed only after the page is painted.
  const turn = (/** @type {number} */ by) => setPage((now) => Math.max(0, Math.min(pages - 1, Math.min(pages - 1, now) + by)));

  useLayoutEffect(() => {
    showTheme("dark");
    return () => showTheme(theme.peek());
  }, [theme.value]);
  useLayoutEffect(() => {
    const { current } = place;
    if (current === null) return undefined;
    const watch = new ResizeObserver(() => setRoom({ width: current.clientWidth, height: current.clientHeight }));
    watch.observe(current);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    const press = (/** @type {KeyboardEvent} */ event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const by = KEYS[event.key];
      if (keyOf(event) === "f") void fill();
      else if (by !== undefined && pages > 1) turn(by);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });

  return html`<main id="main" tabindex="-1" class=${classes("wall", unreachable.value && "is-stale")}>
    <${PageHead} title=${t("wall.title")} badge=${data !== null && html`<${Totals} sessions=${sessions} />`}
      back=${{ href: readsAll.value ? "#/live" : "#/channels", label: t(readsAll.value ? "live.title" : "nav.channels") }}>
      ${pages > 1 && html`<${IconButton} icon="left" label=${t("wall.before")} disabled=${page === 0} onClick=${() => turn(-1)} />
        <span>${t("wall.page", { n: page + 1, all: pages })}</span>
        <${IconButton} icon="right" label=${t("wall.next")} disabled=${page === pages - 1} onClick=${() => turn(1)} />`}
      ${document.fullscreenEnabled && html`<${Button} small aria-keyshortcuts="f" title=${t("wall.full.key")} onClick=${fill}>
        ${t("wall.full")}<//>`}
    <//>
    ${unreachable.value && html`<p class="away" role="alert">${awayText()}</p>`}
    <${Trouble} error=${error} />
    <div class="wall-place" ref=${place}>
      ${data === null ? !error && html`<${Skeleton} lines=${5} />` : sessions.length === 0
        ? html`<${Empty} icon="live" title=${t("live.empty")} text=${t("live.emptyText")} />`
        : room.width > 0 && html`<ul class="wall-grid" style=${{ "--columns": columns, "--rows": rows }}>
          ${sessions.slice(page * columns * rows, (page + 1) * columns * rows)
            .map((session) => html`<${Tile} key=${session.id} session=${session} />`)}</ul>`}
    </div>
  </main>`;
}

/** @param {{sessions: readonly Session[]}} props */
function Totals({ sessions }) {
  const ailing = sessions.filter(ails).length;
  return html`<span class="wall-totals">
    <span>${t("live.count", { n: sessions.length })}</span>
    <span><${Icon} name="eye" size=${16} />${t("wall.viewers", { n: sessions.reduce((all, one) => all + sum(one.viewers), 0) })}</span>
    <span role="status" class=${classes(ailing > 0 && "is-bad")}>${ailing > 0 && html`<${Icon} name="warning" size=${16} />
      ${t("wall.faults", { n: ailing })}`}</span></span>`;
}

/** @param {{session: Session}} props */
function Tile({ session }) {
  const { id, viewers, behind } = session;
  const name = nameOf(session);
  const state = sessionState(session);
  const [worst, ...others] = faults(session);
  const isShown = ["live", "slate"].includes(state) && session.tracks.some((track) => track.kind === "video");
  const wrong = worst ? faultText(worst) : ails(session) ? t(`live.state.${state}`) : "";
  return html`<li class=${classes("wall-tile", wrong && "has-fault")}>
    <a href=${channelHref(id)}>
      <${InputPicture} every=${PICTURE_EVERY} path=${`/videostream/${encodeURIComponent(id)}/inputs`} label=${name}
        input=${{ name: session.input ?? "main", kind: "push", state: isShown ? "on air" : "off" }} />
      <span class="wall-words">
        <b class="wall-name">${name}</b>
        <span class="wall-facts">
          <span><${Icon} name="eye" size=${16} />${t("wall.viewers", { n: sum(viewers) })}</span>
          <span><${Icon} name="clock" size=${16} />${typeof behind === "number" ? t("wall.delay", { s: number(behind, 1) })
            : t("wall.noDelay")}</span>
        </span>
        <span class="wall-health" title=${wrong}><${Icon} name=${wrong ? "warning" : state === "unknown" ? "info" : "check"} size=${16} />
          <span>${wrong || t(state === "unknown" ? "live.state.unknown" : "wall.healthy")}${others.length > 0 && ` ${t("live.moreFaults", { n: others.length })}`}</span></span>
      </span>
    </a></li>`;
}

/** Fills the screen, or ends this. */
async function fill() {
  try {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await document.documentElement.requestFullscreen({ navigationUI: "hide" });
  } catch {
    toast(t("wall.refused"), "warn");
  }
}
