/** One idea: what the viewer sees and presses; it knows nothing of protocols. */

/**
 * What each state says: headline and second line. `{}` stands for the detail given with it.
 * @satisfies {Record<string, [string, string]>}
 */
const WORDS = {
  connecting: ["Connecting", ""],
  waiting: ["Waiting for the stream", "It starts by itself as soon as the broadcast begins."],
  starting: ["The stream is starting", "The first pictures are on their way."],
  live: ["Live", ""],
  paused: ["Paused", ""],
  blocked: ["Ready to play", "This browser wants a click first."],
  ended: ["The stream has ended", "If it comes back, it starts here by itself."],
  denied: ["Not permitted", "This address is not valid for the stream, or it has expired."],
  off: ["Not available as {}", "Choose another player above."],
  codec: ["This browser cannot play the stream", "{}"],
  lost: ["Connection lost", "Trying again …"],
};

/** @typedef {keyof typeof WORDS} State */

const THEMES = /** @type {const} */ (["auto", "light", "dark"]);

/**
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no #${id}`);
  return found;
}

export class View {
  video = element("video", HTMLVideoElement);
  /** @type {State} */
  state = "connecting";

  #stage = element("stage", HTMLElement);
  #start = element("start", HTMLButtonElement);
  #retry = element("retry", HTMLButtonElement);
  #unmute = element("unmute", HTMLButtonElement);
  #goLive = element("golive", HTMLButtonElement);
  #theme = element("theme", HTMLButtonElement);

  /** @param {string} name  the stream, as in the address */
  constructor(name) {
    element("title", HTMLElement).textContent = name;
    document.title = `${name} · Millrace`;
    for (const link of document.querySelectorAll("nav a")) {
      if (link instanceof HTMLAnchorElement) link.search = location.search;
    }
    this.video.addEventListener("volumechange", () => this.#hint());
    this.#unmute.addEventListener("click", () => this.unmute());
    this.#start.addEventListener("click", () => this.play());
    this.#theme.addEventListener("click", () => this.#nextTheme());
    this.#applyTheme();
  }

  /** @param {() => void} run */
  onRetry(run) { this.#retry.addEventListener("click", run); }

  /** @param {() => void} run @param {AbortSignal} signal */
  onStart(run, signal) { this.#start.addEventListener("click", run, { signal }); }

  /** @param {() => void} run */
  onGoLive(run) { this.#goLive.addEventListener("click", run); }

  /**
   * @param {State} state
   * @param {string} [detail]  fills the state's `{}`, or replaces its second line
   */
  show(state, detail = "") {
    const [headline, words] = WORDS[state];
    const open = headline.includes("{}") || words.includes("{}");
    const said = headline.replace("{}", detail);
    element("headline", HTMLElement).textContent = said;
    element("detail", HTMLElement).textContent = open ? words.replace("{}", detail) : detail || words;
    element("state", HTMLElement).textContent = said;
    element("badge", HTMLElement).textContent = said;
    this.#retry.hidden = state !== "denied" && state !== "codec";
    this.#start.hidden = state !== "blocked";
    this.#stage.dataset.state = state;
    if (this.state !== state) element("announcer", HTMLElement).textContent = said;
    this.state = state;
    this.#hint();
  }

  /** Starts playing; where the browser forbids it, asks for a click. */
  async play() {
    try {
      await this.video.play();
    } catch (error) {
      // AbortError: a newer load or pause overtook this call, and has its own outcome.
      if (error instanceof DOMException && error.name === "NotAllowedError") this.show("blocked");
    }
  }

  unmute() {
    this.video.muted = false;
    if (this.video.volume === 0) this.video.volume = 1;
    this.#unmute.hidden = true;
    this.video.focus();
  }

  /** @param {boolean} behind  is the picture noticeably behind the newest one? */
  offerGoLive(behind) { this.#goLive.hidden = !behind; }

  /**
   * @param {string[]} outputs  what the channel offers; the tabs of the others are struck out
   */
  markTabs(outputs) {
    for (const link of document.querySelectorAll("nav a")) {
      if (!(link instanceof HTMLAnchorElement)) continue;
      const off = !outputs.includes(link.dataset.output ?? "");
      link.toggleAttribute("data-off", off);
      link.title = off ? "Switched off for this channel" : "";
    }
  }

  /** @param {{delay: number | null, buffer: number | null}} now */
  facts({ delay, buffer }) {
    const { videoWidth, videoHeight } = this.video;
    const quality = this.video.getVideoPlaybackQuality?.();
    const seconds = (/** @type {number | null} */ n) => n === null || !Number.isFinite(n) ? "–" : `${Math.max(0, n).toFixed(1)} s`;
    element("delay", HTMLElement).textContent = seconds(delay);
    element("buffer", HTMLElement).textContent = seconds(buffer);
    element("picture", HTMLElement).textContent = videoWidth ? `${videoWidth} × ${videoHeight}` : buffer === null ? "–" : "sound only";
    element("dropped", HTMLElement).textContent = quality && videoWidth ? `${quality.droppedVideoFrames}` : "–";
  }

  #hint() { this.#unmute.hidden = !(this.video.muted && (this.state === "live" || this.state === "paused")); }

  #nextTheme() {
    const at = THEMES.findIndex((t) => t === (document.documentElement.dataset.theme ?? "auto"));
    const next = THEMES[(at + 1) % THEMES.length] ?? "auto";
    try { localStorage.setItem("millrace.theme", next); } catch { /* storage is forbidden here: the choice lasts for this page */ }
    this.#applyTheme(next);
  }

  /** @param {string | null} [chosen] */
  #applyTheme(chosen) {
    if (chosen === undefined) {
      try { chosen = localStorage.getItem("millrace.theme"); } catch { chosen = null; }
    }
    const theme = chosen === "light" || chosen === "dark" ? chosen : "auto";
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    this.#theme.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[theme];
    this.#theme.setAttribute("aria-label", `Colours: ${{ auto: "as the system", light: "light", dark: "dark" }[theme]}`);
  }
}
