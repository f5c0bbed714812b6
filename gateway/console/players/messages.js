/** Answers the page that frames a player page: it plays, pauses and reads the state by `postMessage`. */

const RATE = 20; // messages a second that are answered; further ones are dropped
const LONGEST = 64; // characters of the name of a quality

/**
 * What a page can do and tell. time: seconds of the media timeline. quality: the chosen one. qualities: to choose from.
 * @typedef {object} Answering
 * @property {HTMLVideoElement} video
 * @property {() => Promise<void>} play
 * @property {(id: string) => void} [quality]
 * @property {() => {state: string, quality: string, qualities: string[]}} state
 */

/**
 * Answers messages `{"millrace": "play" | "pause" | "mute" | "unmute" | "quality" | "state", "quality"?: string}` of the
 * framing page with `{"millrace": "state", "state", "time", "paused", "muted", "volume", "quality", "qualities"}`, to its
 * origin only. A page without an origin, such as a sandboxed one, gets no answer.
 * @param {Answering} page
 */
export function answerMessages(page) {
  if (globalThis.parent === globalThis.self) return;
  const { video } = page;
  let [since, count] = [0, 0];
  addEventListener("message", async ({ data, source, origin }) => {
    if (source !== parent || origin === "null" || typeof data !== "object" || typeof data?.millrace !== "string") return;
    const now = performance.now();
    if (now - since >= 1000) [since, count] = [now, 0];
    count += 1;
    if (count > RATE) return;
    switch (data.millrace) {
      case "play": await page.play(); break;
      case "pause": video.pause(); break;
      case "mute": video.muted = true; break;
      case "unmute":
        video.muted = false;
        if (video.volume === 0) video.volume = 1;
        break;
      case "quality":
        if (typeof data.quality === "string" && data.quality.length <= LONGEST) page.quality?.(data.quality);
        break;
      case "state": break;
      default: return;
    }
    const { currentTime: time, paused, muted, volume } = video;
    parent.postMessage({ millrace: "state", time, paused, muted, volume, ...page.state() }, origin);
  });
}
