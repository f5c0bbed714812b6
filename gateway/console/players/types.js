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
 * One of the pictures that an address offers.
 * @typedef {object} Quality
 * @property {string} id        the rendition's name, "720p", or SOURCE (quality.js) for what the publisher sends
 * @property {number} height    of the picture, pixels; 0 while unknown
 * @property {number} bitrate   bits a second; 0 while unknown
 */

/**
 * Plays one address in one video element, once. A new one is made for every attempt.
 * @typedef {object} Engine
 * @property {Promise<Outcome>} outcome   settles when it stops by itself
 * @property {() => number | null} delay  seconds behind the broadcast; null while unknown
 * @property {() => void} toLive          jumps to the newest picture
 * @property {() => void} close           stops and frees everything; harmless when repeated
 * @property {() => Quality[]} [qualities]   what the address offers; empty while unknown
 * @property {(id: string) => void} [quality]  AUTO (quality.js), or one of them; kept until the address is known
 * @property {() => string | null} [shown]   which of them is in the picture now
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
 * @property {(status: Status) => Address[]} [others]  addresses besides, for other qualities
 * @property {string | null} unsupported  why this browser cannot play the format at all; null when it can
 * @property {OpenEngine} open
 */

/**
 * An address of a stream, and which qualities it plays: a rendition's, SOURCE, or AUTO where it offers several by itself.
 * @typedef {{id: string, file: string, bitrate: number}} Address
 */

/**
 * The answer of `status.json`.
 * @typedef {object} Status
 * @property {boolean} live
 * @property {string[]} outputs   what the channel offers
 * @property {string[]} [ready]   of those, what answers right now (an HLS playlist comes after its first segment)
 * @property {{name: string, bitrate: number, outputs: string[]}[]} [renditions]  that are live, the smallest first
 * @property {"hls" | "cmaf" | null} [ladder]  the form of index.m3u8, which has the renditions; null: there are none
 * @property {string | null} [poster]  a picture of what was live last, beside the page; only while nothing is live
 * @property {number} [now]       the server's clock, ms since 1970
 */

export {};
