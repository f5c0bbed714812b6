/** Loads the engines when they are needed: the libraries are large. */

/** An engine and whether this browser can use it. @typedef {Pick<import("./types.js").Format, "open" | "unsupported">} Loaded */

/** @returns {Promise<Loaded>} */
export async function loadFlv() {
  const { flvEngine, flvUnsupported, loadLibrary } = await import("./flv-engine.js");
  await loadLibrary();
  return { open: flvEngine, unsupported: flvUnsupported() };
}

/** @param {boolean} lowLatency @returns {Promise<Loaded>} */
export async function loadHls(lowLatency) {
  const { hlsEngine, unsupported } = await import("./hls-engine.js");
  return { open: hlsEngine(lowLatency), unsupported };
}

/** @returns {Promise<Loaded>} */
export async function loadDash() {
  const { dashEngine, unsupported } = await import("./dash-engine.js");
  return { open: dashEngine, unsupported };
}

/** @returns {Promise<Loaded>} */
export async function loadMoq() {
  const { moqEngine, unsupported } = await import("./moq-engine.js");
  return { open: moqEngine, unsupported };
}

/** @returns {Promise<Loaded>} */
export async function loadWhep() {
  const { unsupported, whepEngine } = await import("./whep-engine.js");
  return { open: whepEngine, unsupported };
}
