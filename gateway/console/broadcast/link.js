/** Keeps a connection to one of the servers: reconnects until it is stopped. */

import { closePolicy } from "./close-policy.js";

/** @typedef {import("./types.js").Progress} Progress */
/** @typedef {import("./types.js").ServerLine} ServerLine */
/** @typedef {import("./types.js").Trouble} Trouble */

const FIRST_PAUSE = 0.5;      // seconds before the second try
const MAX_PAUSE = 8;
const STABLE_SECONDS = 5;     // seconds of live time after which the next failure starts with a short pause again
const OPEN_TIMEOUT = 8;       // seconds for a connection to open
const ACCEPT_TIMEOUT = 12;    // … and for the server to accept the push: it may have to wait for its store
const RELOAD_SECONDS = 5;     // … in which a connection from before a reload of this page may still occupy the channel
const SILENCE_TIMEOUT = 12;   // seconds without a message of the server, which sends one every second

/**
 * Callbacks of the owner.
 * @typedef {object} Listener
 * @property {() => void} opened    a new connection: the configuration has to be sent again
 * @property {() => void} closed    nothing can be sent any more
 * @property {(progress: Progress) => void} progress
 * @property {(line: ServerLine) => void} line
 */

export class Link {
  #urls; #protocol; #on;
  #attempt = 0;       // selects the next server
  #pause = FIRST_PAUSE;
  #accepted = false;  // whether any connection was accepted
  #answered = false;  // whether the current one was
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #closing = false;
  #began = performance.now();
  #liveSince = 0;
  #heard = 0;
  #sent = 0;
  #missing = 0; // bytes that had not arrived at the server's last report

  /**
   * @param {string[]} urls  the preferred server first
   * @param {string | null} protocol
   * @param {Listener} on
   */
  constructor(urls, protocol, on) {
    this.#urls = urls;
    this.#protocol = protocol;
    this.#on = on;
    addEventListener("online", this.#online);
  }

  /** Bytes of media that were given to the current connection. */
  get sent() { return this.#sent; }

  /**
   * Bytes of these that have not arrived. The browser reports only bytes that it has not passed to the system. Bytes in
   * the system, in proxies and in the network are known from the server, which reports once a second.
   */
  get queued() { return Math.max(this.#socket?.bufferedAmount ?? 0, this.#missing); }

  get isOpen() { return this.#socket?.readyState === WebSocket.OPEN && !this.#closing; }

  /** Starts the first attempt; later ones follow automatically. */
  open() {
    const url = this.#urls[this.#attempt % this.#urls.length] ?? "";
    this.#on.progress({ phase: "connecting", server: new URL(url).host });
    /** @type {WebSocket} */
    let socket;
    try {
      socket = this.#protocol === null ? new WebSocket(url) : new WebSocket(url, this.#protocol);
    } catch {
      // A page over https must not connect to a server without TLS; the browser refuses at once.
      return this.#failed(1006, "", { why: "tls", again: true });
    }
    this.#socket = socket;
    this.#answered = false;
    this.#liveSince = 0;
    this.#sent = this.#missing = 0;
    let opened = false;
    this.#within(OPEN_TIMEOUT, () => this.#ended(socket, 1006, "", opened));
    socket.onopen = () => {
      opened = true;
      this.#within(ACCEPT_TIMEOUT, () => this.#ended(socket, 1006, "", opened, "silent"));
      this.#on.opened();
    };
    socket.onmessage = (event) => {
      if (typeof event.data === "string") this.#said(event.data, socket);
    };
    socket.onclose = (event) => this.#ended(socket, event.code, event.reason, opened);
  }

  /**
   * @param {string | Uint8Array<ArrayBuffer> | ArrayBuffer} data
   */
  send(data) {
    if (!this.isOpen || this.#socket === null) return;
    this.#socket.send(data);
    if (typeof data !== "string") this.#sent += data.byteLength;
  }

  /** Called about once a second. Closes a connection whose server has been silent for too long. */
  look() {
    const socket = this.#socket;
    if (socket === null || !this.#answered || performance.now() - this.#heard < SILENCE_TIMEOUT * 1000) return;
    this.#ended(socket, 1006, "", true, "silent");
  }

  /** Ends the link after everything was sent, at most after `seconds`. @param {number} [seconds] */
  async close(seconds = 2) {
    this.#over();
    const socket = this.#socket;
    if (socket === null || socket.readyState > WebSocket.OPEN) return;
    await new Promise((/** @type {(value?: unknown) => void} */ done) => {
      socket.onclose = done;
      setTimeout(done, seconds * 1000);
      socket.close(1000); // data that were sent before go out first
    });
    socket.onclose = socket.onmessage = socket.onopen = null;
  }

  /** Gives up at once with this reason. @param {Trouble} why @param {string} reason */
  fail(why, reason) {
    const socket = this.#socket;
    if (socket !== null) this.#leave(socket);
    this.#over();
    this.#on.closed();
    this.#on.progress({ phase: "over", why, code: 0, reason });
  }

  /** Closes the current connection and opens the next one at once, because the media have to start anew. */
  renew() {
    const socket = this.#socket;
    if (socket === null || !this.isOpen) return;
    this.#leave(socket);
    this.#on.closed();
    this.open();
  }

  /** @param {string} text @param {WebSocket} socket */
  #said(text, socket) {
    if (socket !== this.#socket) return;
    this.#heard = performance.now();
    /** @type {ServerLine} */
    let line;
    try { line = JSON.parse(text); } catch { return; } // a newer server may send unknown messages
    if (line === null || typeof line !== "object") return;
    if (line.type === "accepted") {
      clearTimeout(this.#timer);
      this.#accepted = this.#answered = true;
      this.#on.progress({ phase: "accepted", server: new URL(socket.url).host });
    }
    if (line.type === "stats") {
      if (typeof line.received === "number") this.#missing = Math.max(0, this.#sent - line.received);
      if (line.frames && !this.#liveSince) {
        this.#liveSince = this.#heard;
        this.#on.progress({ phase: "live", server: new URL(socket.url).host });
      }
    }
    this.#on.line(line);
  }

  /**
   * @param {WebSocket} socket
   * @param {number} code
   * @param {string} reason
   * @param {boolean} opened
   * @param {Trouble} [known]
   */
  #ended(socket, code, reason, opened, known) {
    if (socket !== this.#socket) return;
    this.#leave(socket);
    this.#on.closed();
    if (this.#closing) return;
    const verdict = closePolicy(code, {
      opened,
      accepted: this.#accepted,
      early: performance.now() - this.#began < RELOAD_SECONDS * 1000,
      secure: socket.url.startsWith("wss:"),
    });
    this.#failed(code, reason, known === undefined ? verdict : { why: known, again: true });
  }

  /** @param {number} code @param {string} reason @param {{why: Trouble, again: boolean}} verdict */
  #failed(code, reason, { why, again }) {
    if (!again) {
      this.#over();
      this.#on.progress({ phase: "over", why, code, reason });
      return;
    }
    if (this.#liveSince && performance.now() - this.#liveSince > STABLE_SECONDS * 1000) {
      this.#pause = FIRST_PAUSE;
      this.#attempt = 0; // begins with the preferred server each time
    } else {
      this.#attempt++;
    }
    this.#liveSince = 0;
    const seconds = this.#pause * (0.75 + Math.random() / 2);
    this.#pause = Math.min(MAX_PAUSE, this.#pause * 2);
    this.#on.progress({ phase: "waiting", why, code, reason, seconds });
    this.#within(seconds, () => this.open());
  }

  /** Ends all tries. */
  #over() {
    this.#closing = true;
    clearTimeout(this.#timer);
    removeEventListener("online", this.#online);
  }

  /** @param {WebSocket} socket */
  #leave(socket) {
    clearTimeout(this.#timer);
    this.#socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  /** @param {number} seconds @param {() => void} run */
  #within(seconds, run) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(run, seconds * 1000);
  }

  /** Ends a pause early, because the network is back. */
  #online = () => {
    if (this.#socket === null && !this.#closing) this.#within(0, () => this.open());
  };
}
