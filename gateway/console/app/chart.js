/** Line charts of values over time, in the page's colours, with the latest values as text for screen readers. */

import { html } from "./html.js";
import { useEffect, useRef, useState } from "preact/hooks";
import { localeFor, NOTHING, timeOfDay } from "./format.js";
import { language, t } from "./i18n.js";
import { loadStyle } from "./load_style.js";

/** @typedef {import("uplot")} UPlot */
/** @typedef {import("uplot").Options} Options */

/**
 * One line. ink: 1 to 6, the page's chart colours.
 * @typedef {{label: string, values: readonly (number | null)[], ink?: number}} Line
 */

/**
 * @typedef {object} ChartProps
 * @property {string} label    title of the chart
 * @property {readonly number[]} times  seconds since 1970, growing
 * @property {readonly Line[]} lines    as many values each as there are times; null: a gap
 * @property {(value: number) => string} format
 * @property {boolean} [whole]  values are whole numbers: no ticks between them
 * @property {number} [least]   the scale reaches at least this value
 * @property {number} [seconds] the most time that the chart shows
 */

const LEAST = 30; // seconds; the least time that a chart shows, so that the first values are not one dot
const LEAST_SMALL = 4; // seconds; the line of a sparkline soon has its whole width

/** @type {Promise<typeof import("uplot")> | null} */
let library = null;

/** Loads the library and its style when the first chart is shown. */
function load() {
  library ??= (async () => {
    const styled = loadStyle("/console/vendor/uplot/uPlot.css");
    const file = new URL("../vendor/uplot/uPlot.js", import.meta.url).href;
    const [{ default: uPlot }] = await Promise.all([/** @type {Promise<{default: typeof import("uplot")}>} */ (import(file)), styled]);
    return uPlot;
  })();
  return library;
}

/**
 * A chart with axes. The legend shows the latest values, or those at the pointer.
 * @param {ChartProps} props
 */
export function Chart(props) {
  const { label, times, lines, format } = props;
  const [at, setAt] = useState(/** @type {number | null} */ (null));
  const place = usePlot(props, false, setAt);
  const shown = at !== null && at < times.length ? at : times.length - 1;
  return html`<figure class="chart">
    <figcaption class="chart-head">
      <span class="chart-name">${label}</span>
      <span class="chart-when">${at === null ? "" : timeOfDay((times[shown] ?? 0) * 1000)}</span>
      <span class="chart-legend">${lines.map((line, i) => html`<span class="chart-value" key=${line.label}>
        ${lines.length > 1 && html`<i class=${`chart-key ink-${line.ink ?? i + 1}`}></i>`}
        <b>${value(line, shown, format)}</b>
        ${lines.length > 1 && html`<span class="chart-of">${line.label}</span>`}
      </span>`)}</span>
    </figcaption>
    <div class="chart-plot" ref=${place} role="img" aria-label=${words(props)}></div>
  </figure>`;
}

/**
 * A sparkline. The caller shows the value beside it.
 * @param {ChartProps} props
 */
export function Spark(props) {
  const place = usePlot(props, true, null);
  return html`<div class="spark" ref=${place} role="img" aria-label=${words(props)}></div>`;
}

/**
 * @param {Line} line
 * @param {number} at
 * @param {(value: number) => string} format
 */
function value(line, at, format) {
  const found = line.values[at];
  return found === null || found === undefined ? NOTHING : format(found);
}

/** @param {ChartProps} props */
function words({ label, lines, format }) {
  const latest = lines.map((line) => {
    const now = value(line, line.values.length - 1, format);
    return lines.length > 1 ? `${line.label} ${now}` : now;
  });
  return t("chart.words", { label, value: latest.join(", ") });
}

/**
 * Keeps a plot in an element during the life of its component.
 * @param {ChartProps} props
 * @param {boolean} small
 * @param {((at: number | null) => void) | null} point  called with the index at the pointer
 */
function usePlot(props, small, point) {
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {UPlot | null} */ (null));
  const latest = useRef(props);
  latest.current = props;
  const names = props.lines.map((line) => `${line.label} ${line.ink ?? ""}`).join("\n");

  useEffect(() => {
    const host = place.current;
    if (host === null) return undefined;
    let gone = false;
    /** @type {(() => void)[]} */
    const undo = [];
    void load().then((uPlot) => {
      if (gone) return;
      const ink = inks(host);
      const made = new uPlot(options(uPlot, host, () => latest.current, ink.of, small, point), data(latest.current), host);
      plot.current = made;
      // Screen readers announce it as one image with its label.
      made.root.setAttribute("aria-hidden", "true");
      const sizes = new ResizeObserver(() => {
        if (host.clientWidth && host.clientHeight) made.setSize({ width: host.clientWidth, height: host.clientHeight });
      });
      sizes.observe(host);
      const repaint = () => { ink.forget(); made.redraw(false, true); };
      const themes = new MutationObserver(repaint);
      themes.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme", "class"] });
      const system = matchMedia("(prefers-color-scheme: dark)");
      system.addEventListener("change", repaint);
      undo.push(() => sizes.disconnect(), () => themes.disconnect(),
        () => system.removeEventListener("change", repaint), () => made.destroy());
    });
    return () => {
      gone = true;
      plot.current = null;
      for (const step of undo) step();
    };
  }, [names, small, language.value]);

  // Drawn again only for new values, because pages also render for other reasons, such as a clock.
  const drawn = useRef(/** @type {readonly unknown[]} */ ([]));
  useEffect(() => {
    const values = [props.times, ...props.lines.map((line) => line.values)];
    if (values.length === drawn.current.length && values.every((one, i) => one === drawn.current[i])) return;
    drawn.current = values;
    plot.current?.setData(data(props));
  });
  return place;
}

/**
 * Returns the page's colours for a canvas, read once per theme.
 * @param {HTMLElement} host
 */
function inks(host) {
  /** @type {Map<string, string>} */
  const known = new Map();
  return {
    forget: () => known.clear(),
    /** @param {string} name  of a custom property */
    of(name) {
      let found = known.get(name);
      if (found === undefined) {
        host.style.color = `var(${name})`;
        found = getComputedStyle(host).color;
        host.style.color = "";
        known.set(name, found);
      }
      return found;
    },
  };
}

/**
 * @param {ChartProps} props
 * @returns {import("uplot").AlignedData}
 */
function data({ times, lines }) {
  return /** @type {import("uplot").AlignedData} */ ([[...times], ...lines.map((line) => [...line.values])]);
}

/**
 * @param {ArrayLike<number | null | undefined>} values
 * @returns {number[]}  indexes of the values without neighbours
 */
function lonely(values) {
  const none = (/** @type {number} */ at) => values[at] === null || values[at] === undefined;
  return Array.from(values, (_, at) => at).filter((at) => !none(at) && none(at - 1) && none(at + 1));
}

/**
 * @param {typeof import("uplot")} uPlot
 * @param {HTMLElement} host
 * @param {() => ChartProps} props
 * @param {(name: string) => string} ink
 * @param {boolean} small
 * @param {((at: number | null) => void) | null} point
 * @returns {Options}
 */
function options(uPlot, host, props, ink, small, point) {
  const { lines, whole = false } = props();
  const font = `11px ${getComputedStyle(host).fontFamily}`;
  const clock = new Intl.DateTimeFormat(localeFor(language.value), { timeStyle: "short" });
  const exact = new Intl.DateTimeFormat(localeFor(language.value), { timeStyle: "medium" });
  const fill = lines.length === 1;
  return {
    width: host.clientWidth || 120,
    height: host.clientHeight || 32,
    padding: small ? [2, 0, 2, 0] : [8, 20, 0, 0],
    legend: { show: false },
    cursor: small ? { show: false } : {
      y: false, drag: { x: false, y: false, setScale: false },
      points: { size: 7, fill: (_, i) => ink(`--chart-${lines[i - 1]?.ink ?? i}`) },
    },
    scales: {
      x: {
        time: true,
        range: (_, min, max) => {
          const { seconds = Infinity } = props();
          const end = max ?? Date.now() / 1000;
          return [end - Math.min(seconds, Math.max(small ? LEAST_SMALL : LEAST, end - (min ?? end))), end];
        },
      },
      y: { range: (_, __, max) => [0, Math.max(props().least ?? 0, (max ?? 0) * 1.12) || 1] },
    },
    axes: small ? [{ show: false }, { show: false }] : [
      {
        font, stroke: () => ink("--chart-ink"), size: 28, space: 72, gap: 6,
        ticks: { show: false }, grid: { show: false },
        values: (_, splits, __, ___, step) => splits.map((s) => (step < 60 ? exact : clock).format(s * 1000)),
      },
      {
        font, stroke: () => ink("--chart-ink"), space: 26, gap: 4,
        // Wide enough for the longest label; a digit of the font has about this width.
        size: (_, labels) => 14 + Math.max(2, ...(labels ?? []).map((words) => words.length)) * 6.2,
        ...(whole && { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5] }),
        ticks: { show: false }, grid: { stroke: () => ink("--chart-grid"), width: 1 },
        values: (_, splits) => splits.map((n) => props().format(n)),
      },
    ],
    series: [{}, ...lines.map((line, i) => ({
      label: line.label,
      width: small ? 1.5 : 2,
      // A value between two gaps has no line, so it is shown as a point.
      points: { show: !small, size: 4, filter: (/** @type {UPlot} */ made, /** @type {number} */ at) => lonely(made.data[at] ?? []) },
      stroke: () => ink(`--chart-${line.ink ?? i + 1}`),
      ...(fill && { fill: () => ink(`--chart-${line.ink ?? i + 1}`).replace(")", ", .13)") }),
      paths: uPlot.paths.linear?.(),
    }))],
    hooks: point === null ? {} : { setCursor: [(made) => point(made.cursor.idx ?? null)] },
  };
}
