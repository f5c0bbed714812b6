/** The types that the page and its engines share (types only; nothing here runs). */

/**
 * The reason why an engine stopped.
 * - `ended`: the server ended the stream
 * - `lost`: the connection or the decoding failed; another try may work
 * - `denied`: the server refused (401 or 403)
 * - `codec`: this browser cannot decode the media
 * @typedef {{why: "ended" | "lost" | "denied" | "codec" | "tracks", detail: string}} Outcome
 */

/**
 * A quality that an address offers.
 * @typedef {object} Quality
 * @property {string} id        the rendition's name, "720p", or SOURCE (quality.js) for the publisher's own
 * @property {number} [width]   of the picture, pixels; 0 while unknown
 * @property {number} height
 * @property {number} bitrate   bits a second; 0 while unknown
 */

/** @typedef {import("./cues.js").Cue} Cue */
/** @typedef {import("./cues.js").Metadata} Metadata */

/**
 * Captions that viewers can choose. language: BCP 47, "" if unknown. default: shown if the viewer has not chosen.
 * @typedef {{id: string, label: string, language: string, default: boolean}} CaptionTrack
 */

/**
 * Plays one address in one video element, once. Each attempt makes a new engine.
 * @typedef {object} Engine
 * @property {Promise<Outcome>} outcome   settles when it stops without `close`
 * @property {() => number | null} delay  seconds between publisher and picture; null while unknown
 * @property {() => void} [toLive]        jumps to the live edge; missing if it is always there
 * @property {() => void} close           stops and frees everything; may be called twice
 * @property {() => Quality[]} [qualities]   of the address; empty while unknown
 * @property {(id: string) => void} [quality]  sets AUTO (quality.js) or one of them; kept until the qualities are known
 * @property {() => string | null} [shown]   the current one
 * @property {() => string[]} [sounds]    the names of the audio tracks, the default one first; empty while unknown
 * @property {(name: string) => void} [sound]  sets one of them; kept until they are known
 * @property {() => {shown: number, newest: number | null} | null} [times]  seconds of the media timeline: the shown picture
 *   and the newest received one, if the element does not know them
 * @property {() => "yes" | "maybe" | "no"} [slow]  whether the link is too slow for the smallest quality; maybe: if
 *   the picture also stops often
 * @property {() => number | null} [dropped] pictures that were not shown, if the element does not count them
 * @property {() => number | null} [date]    the date of the shown picture, ms since 1970; only of a player that rewinds
 * @property {(date: number) => void} [seek]  goes to a date, ms since 1970; only of a player that rewinds
 * @property {(track: CaptionTrack | null) => void} [caption]  chooses the captions; null: none. Kept until they are known
 * @property {() => Cue[]} [cues]            those of the shown picture; missing if they do not come with the media
 * @property {() => Metadata[]} [metadata]   those whose time has come since the last call; missing as `cues` is
 * @property {() => string} [decoder]        what decodes the stream, and why, for the statistics
 */

/**
 * What is known of the live stream that an engine opens. renew: asks for the status again; null: no answer.
 * @typedef {{status: Status, renew: () => Promise<Status | null>}} Live
 */

/**
 * @callback OpenEngine
 * @param {HTMLVideoElement} video
 * @param {string} url     absolute, with the page's own query
 * @param {() => number} now  the server's clock as far as known, ms since 1970
 * @param {Live} live
 * @returns {Engine}
 */

/**
 * The format of a page.
 * @typedef {object} Format
 * @property {string} label   display name, "HTTP-FLV"
 * @property {string} output  the required output of the gateway, "flv"
 * @property {string} media   file name beside the page, "live.flv"
 * @property {string} [protocol]  name in reports, if it is not the output's
 * @property {(status: Status) => Address[]} [others]  further addresses, for other qualities
 * @property {string | null} unsupported  name of the feature that the format needs and this browser lacks; null: none
 * @property {OpenEngine} open
 */

/**
 * A format that the watch page can choose. Its engine is loaded when it is needed.
 * @typedef {Omit<Format, "unsupported" | "open"> & {id: string, load: () => Promise<Pick<Format, "unsupported" | "open">>}} Way
 */

/**
 * An address of a stream and its quality: a rendition's name, SOURCE, or AUTO if it has several qualities.
 * @typedef {{id: string, file: string, width?: number | null, height?: number | null, bitrate: number}} Address
 */

/**
 * A recorded session. Addresses are below that of the channel. start: ms since 1970. changed: when its playlist was stored.
 * title: "": that of the channel.
 * @typedef {{start: number, changed: number, title: string, page: string, hls: string, poster: string}} Recorded
 */

/**
 * The answer of `status.json`.
 * @typedef {object} Status
 * @property {boolean} live       whether viewers can play: there is a publisher, or the gateway waits for its return
 * @property {"live" | "lingering" | "idle"} [state]  lingering: the gateway waits for the publisher's return
 * @property {boolean} [paused]   whether it lingers because the publisher said that it stops; false: its connection broke
 * @property {string[]} outputs   of the channel
 * @property {string[]} [ready]   the outputs that can be requested now (an HLS playlist only after its first segment)
 * @property {string} [color]  of the channel, `#rrggbb`; "": none
 * @property {number} [bitrate]   of the source, bits a second; 0: not known yet
 * @property {{name: string, width?: number | null, height?: number | null, bitrate: number, outputs: string[]}[]} [renditions]
 *   the live ones, the smallest first
 * @property {"hls" | "cmaf" | null} [ladder]  the format of index.m3u8, which has the renditions; null: there are none
 * @property {boolean} [reports]  whether the gateway takes reports of viewers
 * @property {string | null} [poster]  picture of the last live session, in the page's folder; only while the channel is not live
 * @property {Recorded | null} [replay]  the last recorded session; only while the channel is not live
 * @property {string | null} [name]  of the channel; null: there is no channel with this address
 * @property {string} [description]  of the channel
 * @property {CaptionTrack[]} [captions]  of the live stream
 * @property {import("./upcoming.js").Upcoming | null} [upcoming]  the next show
 * @property {{kind: string, codec: string | null}[]} [tracks]  codec: as in the codecs parameter of RFC 6381
 * @property {number | null} [viewers]  on all nodes; null: the channel is not public
 * @property {number} [rewind]    seconds that viewers may go back; 0: not at all
 * @property {number | null} [oldest]  the date to which they can go back, ms since 1970; null: not known yet
 * @property {number} [now]       the server's clock, ms since 1970
 */

export {};
