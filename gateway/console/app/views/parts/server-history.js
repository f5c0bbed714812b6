/** Values of the last 24 hours from the gateway, for charts. They stay when the page is loaded again. */

import { signal } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";

import { keep, recall } from "../../../players/memory.js";
import { html } from "../../html.js";
import { t } from "../../i18n.js";
import { Radios } from "../../kit/radios.js";
import { usePoll } from "../../poll.js";

/**
 * The answer of `GET /history`.
 * @typedef {object} Answer
 * @property {number} from   seconds since 1970
 * @property {number} to
 * @property {number} step   seconds between two times
 * @property {number[]} times
 * @property {Record<string, Record<"avg" | "min" | "max", (number | null)[]>>} series
 */

/**
 * What charts need.
 * @typedef {object} Past
 * @property {readonly number[]} times   empty if nothing is known
 * @property {number} seconds            the most that is shown
 * @property {readonly string[]} names   of the series
 * @property {(name: string, kind?: "avg" | "min" | "max") => readonly (number | null)[]} values
 */

/** The spans to choose from: the query's hours, and the seconds between two requests. */
const SPANS = {
  600: { hours: "0.1666", every: 5_000 },
  3600: { hours: "1", every: 15_000 },
  86400: { hours: "24", every: 60_000 },
};

/** @typedef {keyof typeof SPANS} Span */

const SOON = 5_000; // ms between two requests until the first value is there: the gateway takes one every 5 s

const GAP = 2.5; // steps without a value from which a gap is shown

/** The chosen span, for all charts. */
const chosen = signal(/** @type {Span} */ (Number(recall("history")) in SPANS ? Number(recall("history")) : 600));

/** The choice of the span. */
export function SpanChoice() {
  return html`<div class="spans"><${Radios} label=${t("history.span")} value=${String(chosen.value)}
    options=${Object.keys(SPANS).map((value) => ({ value, label: t(`history.span.${value}`) }))}
    onChange=${(/** @type {string} */ value) => {
      keep("history", value);
      chosen.value = /** @type {Span} */ (Number(value));
    }} /></div>`;
}

/**
 * Returns the history of a channel or of the node, updated while it is shown.
 * @param {{channel?: string, all?: boolean}} of  all: the sum of all gateways
 * @returns {Past | null}  null while it is loaded
 */
export function useHistory({ channel, all = false }) {
  const { hours, every } = SPANS[chosen.value];
  const path = `/history?hours=${hours}${channel ? `&channel=${encodeURIComponent(channel)}` : ""}${all ? "&nodes=all" : ""}`;
  const [soon, setSoon] = useState(false);
  /** @type {import("../../poll.js").PolledSignal<Answer>} */
  const polled = usePoll(path, soon ? SOON : every);
  const { data } = polled.value;
  useEffect(() => setSoon(data !== null && data.times.length === 0), [data]);
  const seconds = chosen.value;
  return useMemo(() => data && past(data, seconds), [data, seconds]);
}

/**
 * Adds empty values where the gateway has none, so that charts show a gap.
 * @param {Answer} answer
 * @param {number} seconds
 * @returns {Past}
 */
export function past({ times, step, to, series }, seconds) {
  /** @type {number[]} */
  const shown = [];
  /** @type {number[]} */
  const from = []; // index in `times`; -1: a gap
  const put = (/** @type {number} */ at, /** @type {number} */ index) => { shown.push(at); from.push(index); };
  times.forEach((at, i) => {
    const before = times[i - 1];
    if (before !== undefined && at - before > GAP * step) put(before + 1, -1);
    put(at, i);
  });
  const last = times.at(-1);
  if (last !== undefined && to - last > GAP * step) {
    put(last + 1, -1);
    put(to, -1);
  }
  /** @type {Map<string, (number | null)[]>} */
  const made = new Map();
  return {
    times: shown,
    seconds,
    names: Object.keys(series),
    values(name, kind = "avg") {
      const key = `${name} ${kind}`;
      const found = made.get(key) ?? from.map((index) => series[name]?.[kind][index] ?? null);
      made.set(key, found); // charts are drawn again only for new lists
      return found;
    },
  };
}
