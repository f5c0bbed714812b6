/** One idea: the words that the page and its engines share (types only; nothing here runs). */

/**
 * Why an engine stopped.
 * - `ended`: the stream is over, as said by the server
 * - `lost`: the connection or the picture broke; worth another try
 * - `denied`: the server refused (401 or 403)
 * - `codec`: this browser cannot decode what is sent
 * @typedef {{why: "ended" | "lost" | "denied" | "codec", detail: string}} Outcome
 */

/**
 * Plays one address in one video element, once. A new one is made for every attempt.
 * @typedef {object} Engine
 * @property {Promise<Outcome>} outcome   settles when it stops by itself
 * @property {() => number | null} delay  seconds behind the broadcast; null while unknown
 * @property {() => void} toLive          jumps to the newest picture
 * @property {() => void} close           stops and frees everything; harmless when repeated
 */

/**
 * @callback OpenEngine
 * @param {HTMLVideoElement} video
 * @param {string} url     absolute, with the page's own query
 * @param {() => number} now  the server's clock as far as known, ms since 1970
 * @returns {Engine}
 */

/**
 * What a page plays.
 * @typedef {object} Format
 * @property {string} label   as people say it, "HTTP-FLV"
 * @property {string} output  the gateway's output it needs, "flv"
 * @property {string} media   file name beside the page, "live.flv"
 * @property {string | null} unsupported  why this browser cannot play the format at all; null when it can
 * @property {OpenEngine} open
 */

/**
 * The answer of `status.json`.
 * @typedef {object} Status
 * @property {boolean} live
 * @property {string[]} outputs   what the channel offers
 * @property {string[]} [ready]   of those, what answers right now (an HLS playlist comes after its first segment)
 * @property {number} [now]       the server's clock, ms since 1970
 */

export {};
