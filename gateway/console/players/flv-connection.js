/** Opens an address of FLV, by WebSocket or HTTP. */

/** @typedef {import("./types.js").Outcome} Outcome */

const NORMAL_CLOSURE = 1000; // RFC 6455 §7.4.1

/**
 * @param {string} url  ws: or http:
 * @param {{data: (bytes: Uint8Array<ArrayBuffer>) => void, ended: (why: Outcome["why"], detail: string) => void}} on
 *   ended: not called after `close`
 * @returns {{close: () => void}}
 */
export function openFlv(url, on) { return url.startsWith("ws") ? openSocket(url, on) : openHttp(url, on); }

/** @type {typeof openFlv} */
function openSocket(url, on) {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => { if (data instanceof ArrayBuffer) on.data(new Uint8Array(data)); };
  // A socket that never opened has 1006: the page then asks the gateway for the reason.
  socket.onclose = ({ code, reason }) => on.ended(code === NORMAL_CLOSURE ? "ended" : "lost", reason);
  return {
    close() {
      socket.onmessage = socket.onclose = null;
      socket.close();
    },
  };
}

/** @type {typeof openFlv} */
function openHttp(url, on) {
  const abort = new AbortController();
  const { signal } = abort;
  async function read() {
    const reply = await fetch(url, { signal, cache: "no-store" });
    if (reply.status === 401 || reply.status === 403) return on.ended("denied", (await reply.text()).trim().slice(0, 300));
    const reader = reply.ok ? reply.body?.getReader() : null;
    if (!reader) return on.ended("lost", `HTTP ${reply.status}`);
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) return;
      if (done) return on.ended("ended", "");
      on.data(/** @type {Uint8Array<ArrayBuffer>} */ (value));
    }
  }
  read().catch((error) => { if (!signal.aborted) on.ended("lost", String(error.message)); });
  return { close: () => abort.abort() };
}
