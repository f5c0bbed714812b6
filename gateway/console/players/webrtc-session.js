/** One session of WHEP or WHIP (RFC 9725): sends the offer, restarts ICE when the path breaks, and ends the session. */

import { restarted, restartFragment } from "./whep-sdp.js";

const DISCONNECTED_SECONDS = 3; // without an answer of the server before another path is sought
const CONNECT_SECONDS = 15; // until the connection works, after the answer
const DELETE_SECONDS = 1; // for the answer to DELETE

/** The server has refused the session. status: of HTTP; 0: no answer. */
export class Refused extends Error {
  /** @param {number} status @param {string} words  of the server */
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

/**
 * Use: `open` once; `close` at the end, also after a failure. `failed` is called at most once, when the connection is lost
 * for good; `connected` each time that it works.
 */
export class WebRtcSession {
  /** @type {RTCPeerConnection} */
  connection;
  #url; #on;
  #location = "";
  #etag = "*";
  #answer = "";
  #open = true;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {string} url  of the endpoint, with its query
   * @param {{connected: () => void, failed: (reason: string) => void}} on
   */
  constructor(url, on) {
    this.#url = url;
    this.#on = on;
    const connection = this.connection = new RTCPeerConnection();
    connection.addEventListener("connectionstatechange", () => this.#changed(connection.connectionState));
  }

  /**
   * Sends the offer of the connection, whose tracks have been added, and takes the answer.
   * @param {(sdp: string) => string} change  of the offer
   * @throws {Refused}
   */
  async open(change) {
    const { connection } = this;
    const { sdp = "" } = await connection.createOffer();
    // The candidates are not awaited: the server learns the addresses of its clients from their checks.
    await connection.setLocalDescription({ type: "offer", sdp: change(sdp) });
    const reply = await this.#send(this.#url, "POST", "application/sdp", connection.localDescription?.sdp ?? "");
    const answer = await reply.text();
    this.#location = new URL(reply.headers.get("Location") ?? "", reply.url).href;
    this.#etag = reply.headers.get("ETag") ?? "*";
    if (!this.#open) return void this.#delete(); // closed while the answer was on its way
    this.#answer = answer;
    this.#within(CONNECT_SECONDS, () => this.#fail("no connection"));
    await connection.setRemoteDescription({ type: "answer", sdp: answer });
    // The server's close_notify closes the transport, which is no state of the connection as a whole.
    for (const transport of transports(connection)) {
      transport.addEventListener("statechange", () => { if (transport.state === "closed") this.#fail(ENDED); });
    }
  }

  /** Ends the session, here and at the server, also while the page is left. */
  close() {
    if (!this.#open) return;
    this.#open = false;
    clearTimeout(this.#timer);
    const { connection } = this;
    if (!this.#location) return connection.close(); // `open` ends the session when its answer comes
    // Afterwards, because a closed connection would end the session before the request does.
    const late = new Promise((done) => { setTimeout(done, DELETE_SECONDS * 1000); });
    void Promise.race([this.#delete(), late]).then(() => connection.close());
  }

  /** @param {RTCPeerConnectionState} state */
  #changed(state) {
    if (!this.#open) return;
    if (state === "connected") {
      clearTimeout(this.#timer);
      this.#on.connected();
    } else if (state === "disconnected") {
      this.#within(DISCONNECTED_SECONDS, () => void this.#restart().catch((error) => this.#fail(String(error.message))));
    } else if (state === "failed" || state === "closed") this.#fail(state);
  }

  /** Seeks another path to the server, as after a change of networks. */
  async #restart() {
    const { connection } = this;
    this.#within(CONNECT_SECONDS, () => this.#fail("no connection"));
    await connection.setLocalDescription(await connection.createOffer({ iceRestart: true }));
    const fragment = restartFragment(connection.localDescription?.sdp ?? "");
    const reply = await this.#send(this.#location, "PATCH", "application/trickle-ice-sdpfrag", fragment);
    this.#etag = reply.headers.get("ETag") ?? this.#etag;
    this.#answer = restarted(this.#answer, await reply.text());
    if (this.#open) await connection.setRemoteDescription({ type: "answer", sdp: this.#answer });
  }

  /**
   * @param {string} url @param {string} method @param {string} type @param {string} body
   * @returns {Promise<Response>}
   * @throws {Refused}
   */
  async #send(url, method, type, body) {
    const headers = { "Content-Type": type, ...(method === "PATCH" && { "If-Match": this.#etag }) };
    const reply = await fetch(url, { method, headers, body }).catch(() => { throw new Refused(0, ""); });
    if (!reply.ok) throw new Refused(reply.status, (await reply.text()).trim().slice(0, 300));
    return reply;
  }

  /** Ends the session at the server. */
  async #delete() {
    // `keepalive`: the request outlives the page. If it fails, the server ends the session for want of checks.
    await fetch(this.#location, { method: "DELETE", keepalive: true }).catch(() => undefined);
  }

  /** @param {string} reason */
  #fail(reason) {
    if (!this.#open) return;
    if (reason === ENDED) this.#location = ""; // there is nothing to delete
    this.close();
    this.#on.failed(reason);
  }

  /** @param {number} seconds @param {() => void} run */
  #within(seconds, run) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(run, seconds * 1000);
  }
}

/** The reason of an end that the server has announced. */
export const ENDED = "ended by the server";

/** @param {RTCPeerConnection} connection @returns {Set<RTCDtlsTransport>} */
function transports(connection) {
  const all = connection.getTransceivers().flatMap(({ sender, receiver }) => [sender.transport, receiver.transport]);
  return new Set(all.filter((transport) => transport !== null));
}
