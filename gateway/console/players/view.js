/** The user interface of a player page; independent of the protocol. */

import { titleBar } from "./bar.js";
import { Captions } from "./captions.js";
import { codecWords } from "./codec-words.js";
import { Controls } from "./controls.js";
import { h, icon } from "./dom.js";
import { languageTag, speak } from "./language.js";
import { showShape } from "./media.js";
import { recordedOn, SHORT } from "./recorded-on.js";
import { Share } from "./share.js";
import { EMBEDDED, query } from "./status.js";
import { Volume } from "./volume.js";
import { t } from "./words.js";

/** @typedef {import("./types.js").Format} Format */
/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./words.js").Word} Word */

const STATES = /** @type {const} */ ([
  "connecting", "waiting", "starting", "live", "paused", "blocked", "ended", "denied", "off", "codec", "missing", "lost", "broken", "stopped", "stalled",
  "unknown",
]);
/** @typedef {typeof STATES[number]} State */

/** The second line of a state, if it has one. @type {Partial<Record<State, Word>>} */
const DETAILS = {
  waiting: "detail.waiting", starting: "detail.starting", blocked: "detail.blocked", ended: "detail.ended",
  denied: "detail.denied", off: "detail.off", lost: "detail.lost", broken: "detail.broken", stopped: "detail.ended", unknown: "detail.unknown",
};

/** Temporary states: the last picture stays until the next one comes. @type {State[]} */
const PASSING = ["starting", "broken", "stopped", "stalled", "lost"];

/** States that a device without a network explains. @type {State[]} */
const OFFLINE = ["stalled", "lost"];

/** States in which no key does anything. @type {State[]} */
const KEYLESS = ["unknown", "codec", "missing", "denied", "off"];

/** The player pages and their outputs. */
const PAGES = /** @type {const} */ ([
  ["flv.html", "flv", "FLV"], ["index.html", "hls", "HLS"], ["hls.html", "cmaf", "LL-HLS"], ["dash.html", "cmaf", "DASH"],
  ["instant.html", "flv", "Instant"], ["whep.html", "whep", "WebRTC"], ["moq.html", "moq", "MoQ"],
]);

/**
 * What a page shows around the stage, instead of the tabs and facts of a page for one format.
 * @typedef {object} Layout
 * @property {(parts: {stage: HTMLElement, facts: HTMLElement, keys: HTMLElement, controls: Controls}) => Node[]} build
 *   returns the content of the page
 * @property {(status: Status) => void} about  shows what is known of the channel
 * @property {(label: string) => void} uses    shows the way that plays
 * @property {() => string} title              of the document
 */

export class View {
  video = h("video", { id: "video", autoplay: true, playsinline: true, tabindex: "-1" });
  /** @type {State} */
  state = "connecting";
  controls; captions;

  #format;
  #layout;
  #rewound = false;
  /** What is shown instead of the live stream. @type {import("./types.js").Recorded | null} */
  #recorded = null;
  #heading = h("h1", { id: "title" });
  #share;
  #protocol = h("dd", { id: "protocol" });
  #detail = "";
  /** @type {string[] | null} */
  #outputs = null;
  #volume = new Volume(this.video, true); // browsers allow the first visit to play by itself only without sound
  #stage = h("section", { id: "stage", class: "stage", "data-state": "connecting" });
  #poster = h("img", { class: "poster", alt: "", hidden: true });
  #held = h("canvas", { class: "held", hidden: true, "aria-hidden": "true" });
  #headline = h("p", { class: "headline", id: "headline" });
  #more = h("p", { class: "detail", id: "detail" });
  #retry = h("button", { id: "retry", type: "button", hidden: true });
  #start = h("button", { id: "start", type: "button", hidden: true, onclick: () => void this.play() }, icon("play"));
  #startWords = h("span");
  #badge = h("span", { class: "badge", id: "badge", "aria-hidden": "true" });
  #lag = h("span", { class: "lag" });
  #unmute = h("button", { id: "unmute", class: "hint", type: "button", hidden: true, onclick: () => this.muteOrNot() });
  #notice = h("p", { class: "notice", id: "notice", role: "status", hidden: true });
  #noticed = /** @type {Word | null} */ (null);
  #announcer = h("p", { class: "visually-hidden", id: "announcer", role: "status", "aria-live": "polite" });
  #keys = h("p", { class: "keys" });
  #captionKey = h("span", { hidden: true });
  #tabs = PAGES.map(([page, output, label]) =>
    h("a", { href: page + query, "data-output": output, "aria-current": location.pathname.endsWith(`/${page}`) && "page", hidden: output === "moq" }, label));
  #facts = {
    state: h("dd", { id: "state" }), delay: h("dd", { id: "delay" }, "–"), buffer: h("dd", { id: "buffer" }, "–"),
    picture: h("dd", { id: "picture" }, "–"), dropped: h("dd", { id: "dropped" }, "–"), decoder: h("dd", { id: "decoder" }),
  };
  #decoder = fact("fact.decoder", this.#facts.decoder, "fact.decoder.why");

  /**
   * @param {string} name  the stream, as in the address
   * @param {{label: string, media: string}} format
   * @param {Layout | null} layout
   */
  constructor(name, format, layout = null) {
    this.#format = format;
    this.#layout = layout;
    this.#share = new Share(format.media);
    this.controls = new Controls(this.#stage, this.video, {
      toggle: () => this.toggle(), mute: () => this.muteOrNot(), share: () => this.#share.open(),
    });
    this.captions = new Captions(this.#stage, this.controls);
    this.#build(name);
    for (const change of ["online", "offline"]) addEventListener(change, this.#online);
    speak(() => {
      document.documentElement.lang = languageTag();
      document.title = this.#title();
      for (const tab of this.#tabs) if (tab.pathname.endsWith("/instant.html")) tab.textContent = t("page.instant");
      this.show(this.state, this.#detail);
      if (this.#outputs) this.markTabs(this.#outputs);
    });
  }

  /** Shows the state again, because the device lost its network or has it back. */
  #online = () => { if (OFFLINE.includes(this.state)) this.show(this.state, this.#detail); };

  /** @param {() => void} run */
  onRetry(run) { this.#retry.addEventListener("click", run); }

  /**
   * @param {State} state
   * @param {string} [detail]  replaces the state's second line
   */
  show(state, detail = "") {
    if (state === "denied" && this.#layout) detail = ""; // the gateway's reason is for those who make addresses
    this.#detail = detail;
    const offline = !navigator.onLine && OFFLINE.includes(state);
    const said = offline ? t("state.offline") : state === "live" && this.#recorded ? recordedOn(this.#recorded.start, SHORT) : state === "live" && this.#rewound ? t("rewind.state")
      : state === "off" && this.#layout ? t("state.off.all") : t(`state.${state}`, { format: this.#format.label });
    const off = this.#layout ? "detail.off.all" : EMBEDDED ? "detail.off.embed" : "detail.off";
    const words = offline ? "detail.offline" : state === "off" ? off : DETAILS[state];
    this.#headline.textContent = said;
    this.#more.textContent = (offline ? "" : state === "codec" ? codecWords(detail) : detail) || (words ? t(words) : "");
    this.#facts.state.textContent = said;
    if (state !== "live" && state !== "paused") this.#lag.textContent = ""; // it is the delay of a moving picture
    this.#badge.replaceChildren(said, this.#lag);
    this.#keys.hidden = KEYLESS.includes(state);
    this.#retry.hidden = state !== "denied" && state !== "codec";
    this.#start.hidden = state !== "blocked";
    this.#stage.dataset.state = state;
    if (this.state !== state || (offline && this.#announcer.textContent !== said)) this.#announcer.textContent = said;
    this.state = state;
    if (!PASSING.includes(state)) this.release();
    if (state === "live") this.poster(null);
    this.#hint();
    this.controls.refresh();
  }

  /**
   * Shows a picture behind the text while nothing plays.
   * @param {string | null} url
   */
  poster(url) {
    if (url === null) this.#poster.hidden = true;
    else if (this.#poster.getAttribute("src") === url) this.#poster.hidden = !this.#poster.complete || !this.#poster.naturalWidth;
    else {
      this.#poster.hidden = true; // until it is loaded
      this.#poster.src = url;
    }
  }

  /** Keeps the current picture visible while the next player of the stream is opened. */
  hold() {
    const { videoWidth, videoHeight } = this.video;
    const paper = this.#held.getContext("2d");
    if (!videoWidth || !paper) return;
    this.#held.width = videoWidth;
    this.#held.height = videoHeight;
    paper.drawImage(this.video, 0, 0);
    this.#held.hidden = false;
    this.#stage.dataset.held = "";
  }

  /** Removes the kept picture, when the video plays again or has ended. */
  release() {
    this.#held.hidden = true;
    delete this.#stage.dataset.held;
  }

  /** Starts playback; muted if the browser forbids sound, and after a click if it forbids that too. */
  async play() { if (!await this.#volume.play()) this.show("blocked"); }

  toggle() {
    if (this.state === "blocked") this.#start.click();
    else if (this.video.paused) void this.play();
    else this.video.pause();
  }

  muteOrNot() {
    this.#volume.toggle();
    if (document.activeElement === this.#unmute) this.controls.focus();
  }

  /** @param {Word | null} word  what the viewer should know while the stream plays; null: nothing */
  notice(word) {
    if (word === this.#noticed) return;
    this.#noticed = word;
    this.#notice.hidden = word === null;
    this.#notice.textContent = word === null ? "" : t(word);
  }

  /** @param {boolean} rewound  whether an earlier time is shown */
  rewinds(rewound) {
    if (rewound === this.#rewound) return;
    this.#rewound = rewound;
    this.#stage.toggleAttribute("data-rewound", rewound);
    this.show(this.state, this.#detail);
  }

  /** @param {import("./types.js").Recorded | null} recorded  null: the live stream is shown */
  replays(recorded) {
    this.#recorded = recorded;
    this.#share.plays(recorded?.hls ?? this.#format.media);
    this.#stage.toggleAttribute("data-replay", recorded !== null);
  }

  /** @param {Status} status */
  about(status) {
    this.markTabs(status.outputs);
    this.#layout?.about(status);
    if (status.name) this.#heading.textContent = status.name;
    document.title = this.#title();
  }

  #title() { return this.#layout?.title() ?? `${this.#heading.textContent || t("page.title")} · Millrace`; }

  /** @param {{label: string, media: string}} format  the one that plays now */
  uses(format) {
    this.#format = format;
    this.#protocol.textContent = format.label;
    this.#share.plays(format.media);
    this.#layout?.uses(format.label);
  }

  /**
   * @param {string[]} outputs  of the channel; the tabs of other outputs are struck out
   */
  markTabs(outputs) {
    this.#outputs = outputs;
    for (const link of this.#tabs) {
      const off = !outputs.includes(link.dataset.output ?? "");
      if (link.dataset.output === "moq") link.hidden = off; // most gateways have no port for it
      link.toggleAttribute("data-off", off);
      link.title = off ? t("page.off") : "";
    }
  }

  /** @param {{delay: number | null, buffer: number | null, dropped?: number | null, decoder?: string}} now */
  facts({ delay, buffer, dropped, decoder = "" }) {
    const { videoWidth, videoHeight } = this.video;
    const quality = this.video.getVideoPlaybackQuality?.();
    const seconds = (/** @type {number | null} */ n) => n === null || !Number.isFinite(n) ? "–" : `${Math.max(0, n).toFixed(1)} s`;
    // A delay of 0 is impossible; it only means that the buffer is empty.
    const known = delay === null || delay < 0.05 ? null : delay;
    this.#facts.delay.textContent = seconds(known);
    this.#lag.textContent = known === null ? "" : seconds(known);
    this.#facts.buffer.textContent = seconds(buffer);
    this.#facts.picture.textContent = videoWidth ? `${videoWidth} × ${videoHeight}` : buffer === null ? "–" : t("fact.sound");
    const lost = dropped ?? quality?.droppedVideoFrames;
    this.#facts.dropped.textContent = lost !== undefined && videoWidth ? `${lost}` : "–";
    this.#facts.decoder.textContent = decoder;
    this.#captionKey.hidden = !this.captions.offered;
    this.#decoder.hidden = decoder === "";
  }

  #hint() { this.#unmute.hidden = !(this.video.muted && (this.state === "live" || this.state === "paused")); }

  /** @param {string} name */
  #build(name) {
    this.#heading.textContent = name;
    this.#protocol.textContent = this.#format.label;
    this.#start.append(this.#startWords);
    this.video.addEventListener("volumechange", () => this.#hint());
    showShape(this.video);
    this.#poster.addEventListener("load", () => { this.#poster.hidden = this.state === "live" || this.state === "paused"; });
    this.#stage.append(this.#poster, this.video, this.#held,
      h("div", { class: "veil" },
        h("div", { class: "pulse", "aria-hidden": "true" }, h("i"), h("i"), h("i")), this.#headline, this.#more, this.#retry, this.#start),
      this.#badge, this.#notice, h("div", { class: "hints" }, this.#unmute), this.controls.element, this.captions.element);
    const { state, delay, buffer, picture, dropped } = this.#facts;
    const facts = h("dl", { class: "facts" }, fact("fact.protocol", this.#protocol), fact("fact.state", state),
      fact("fact.delay", delay, "fact.delay.why"), fact("fact.buffer", buffer, "fact.buffer.why"),
      fact("fact.picture", picture), fact("fact.dropped", dropped, "fact.dropped.why"), this.#decoder);
    this.#decoder.className = "line";
    const keys = this.#keys;
    const pip = h("span", { hidden: !document.pictureInPictureEnabled });
    document.documentElement.toggleAttribute("data-embed", EMBEDDED);
    this.#stage.append(this.#announcer);
    const page = this.#layout?.build({ stage: this.#stage, facts, keys, controls: this.controls })
      ?? [titleBar(this.#heading, said("nav", "page.formats", { class: "tabs" }, ...this.#tabs)),
      h("main", {}, this.#stage, facts), h("footer", {}, keys)];
    document.body.append(...page, this.#share.element);
    speak(() => {
      this.#stage.setAttribute("aria-label", t("page.player"));
      this.video.setAttribute("aria-label", t("page.video"));
      this.#retry.textContent = t("do.retry");
      if (this.#noticed) this.#notice.textContent = t(this.#noticed);
      this.#startWords.textContent = t("do.play");
      this.#unmute.textContent = t("sound.off");
      const fill = (/** @type {HTMLElement} */ place, /** @type {string} */ key, /** @type {Word} */ word) => {
        place.replaceChildren(h("kbd", {}, key), ` ${t(word)}`);
        return place;
      };
      keys.replaceChildren(fill(h("span"), t("key.space"), "key.play"), fill(h("span"), "M", "key.sound"), fill(h("span"), "F", "key.full"),
        fill(this.#captionKey, "C", "key.captions"), fill(pip, "P", "key.pip"), fill(h("span"), "L", "key.live"));
    });
  }
}

/**
 * An element with an accessible name.
 * @param {"nav"} tag
 * @param {Word} word
 * @param {Record<string, string>} attributes
 * @param {...Node} children
 */
function said(tag, word, attributes, ...children) {
  const element = h(tag, attributes, ...children);
  speak(() => element.setAttribute("aria-label", t(word)));
  return element;
}

/**
 * @param {Word} word
 * @param {HTMLElement} value
 * @param {Word} [why]
 */
function fact(word, value, why) {
  const term = h("dt");
  speak(() => {
    term.textContent = t(word);
    if (why) term.title = t(why);
  });
  return h("div", {}, term, value);
}
