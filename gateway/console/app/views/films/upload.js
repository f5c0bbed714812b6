/** One upload: requests an address, sends the file there, and reports the progress. */

import { signal } from "@preact/signals";
import { api } from "../../../players/api.js";
import { learn } from "./names.js";

/**
 * @typedef {object} Progress
 * @property {"waiting" | "sending" | "done" | "failed" | "canceled"} state
 * @property {number} sent     bytes
 * @property {number} speed    bytes per second, over the last seconds
 * @property {string} error    the server's message, if "failed"
 * @property {number} status   HTTP status, if "failed"; 0: the connection broke
 */

/** @typedef {{key: string, url: string, method: string, headers: Record<string, string>}} Offer */

// In one request, as all uploads of pages. S3 refuses more without a reason that a page can show.
export const S3_BYTES = 5 * 2 ** 30;

let last = 0;

/** @type {Progress} */
const FRESH = { state: "waiting", sent: 0, speed: 0, error: "", status: 0 };

/** One upload. */
export class Upload {
  /** Unique in the page, because file names may repeat. */
  id = ++last;
  /** The key of the stored file; "" until the gateway has given one. */
  key = "";
  /** Whether the upload has begun. */
  begun = false;
  progress = signal(FRESH);
  /** Whether the file goes to a bucket, and is larger than Amazon S3 takes. */
  tooLarge = false;
  /** @type {XMLHttpRequest | null} */
  #request = null;

  /** @param {File} file */
  constructor(file) { this.file = file; }

  get over() { return !this.#is("waiting") && !this.#is("sending"); }

  /** Queues a failed upload again. */
  retry() {
    this.begun = false;
    this.progress.value = FRESH;
  }

  /** @returns {Promise<void>} settles at the end of the upload, also if it failed */
  async start() {
    this.begun = true;
    /** @type {Offer} */
    let offer;
    try {
      offer = await api.post("/uploads", { name: this.file.name });
      this.key = offer.key;
      this.tooLarge = this.file.size > S3_BYTES && offer.url.includes("X-Amz-Signature=");
      learn(offer.key, this.file.name);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      return this.#fail(error.message, "status" in error ? Number(error.status) : 0);
    }
    if (this.#is("canceled")) return;
    await this.#send(offer);
  }

  cancel() {
    if (!this.#is("waiting") && !this.#is("sending")) return;
    this.#set({ state: "canceled", speed: 0 });
    this.#request?.abort();
  }

  /**
   * Uses XMLHttpRequest, because fetch() does not report the progress of an upload.
   * @param {Offer} offer
   */
  #send(offer) {
    const request = new XMLHttpRequest();
    this.#request = request;
    const speed = speedometer();
    return new Promise((/** @type {(value?: undefined) => void} */ over) => {
      request.upload.addEventListener("progress", ({ loaded }) => {
        if (this.#is("sending")) this.#set({ sent: loaded, speed: speed(loaded, performance.now() / 1000) });
      });
      request.addEventListener("load", () => {
        if (request.status >= 200 && request.status < 300) {
          this.#set({ state: "done", sent: this.file.size, speed: 0 });
        } else this.#fail(words(request), request.status);
        over();
      });
      request.addEventListener("error", () => { this.#fail("", 0); over(); });
      request.addEventListener("abort", () => over());
      request.open(offer.method, offer.url);
      for (const [name, value] of Object.entries(offer.headers)) request.setRequestHeader(name, value);
      this.#set({ state: "sending" });
      request.send(this.file);
    });
  }

  /** @param {string} error @param {number} status */
  #fail(error, status) { if (!this.#is("canceled")) this.#set({ state: "failed", speed: 0, error, status }); }

  /** @param {Progress["state"]} state */
  #is(state) { return this.progress.peek().state === state; }

  /** @param {Partial<Progress>} change */
  #set(change) { this.progress.value = { ...this.progress.peek(), ...change }; }
}

/**
 * Returns the server's reason of a refusal.
 * @param {XMLHttpRequest} request
 * @returns {string}
 */
function words(request) {
  try {
    const { error } = JSON.parse(request.responseText);
    return typeof error === "string" ? error : "";
  } catch {
    return ""; // the answer of S3 is XML, which is not useful for users
  }
}

const WINDOW = 4; // seconds

/** @returns {(sent: number, at: number) => number} bytes per second over the last seconds */
function speedometer() {
  /** @type {{sent: number, at: number}[]} */
  const seen = [];
  return (sent, at) => {
    seen.push({ sent, at });
    while (seen.length > 2 && at - (seen[0]?.at ?? at) > WINDOW) seen.shift();
    const [first] = seen;
    return first && at > first.at ? (sent - first.sent) / (at - first.at) : 0;
  };
}
