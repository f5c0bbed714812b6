/** One idea: the words that the page and its worker share (types only; nothing here runs). */

/**
 * How media goes out: WebCodecs frames, or the bytes of a MediaRecorder.
 * @typedef {"frames" | "container"} Transport
 */

/**
 * What an encoder of this browser was found to do.
 * @typedef {{codec: string, width: number, height: number, frameRate: number, bitrate: number}} PictureFormat
 * @typedef {{codec: "opus" | "mp4a.40.2", sampleRate: number, channels: number, bitrate: number}} SoundFormat
 */

/**
 * What a broadcast begins with.
 * @typedef {object} Start
 * @property {Transport} transport
 * @property {string[]} urls       of the servers, the preferred one first
 * @property {PictureFormat} picture
 * @property {SoundFormat} sound
 * @property {boolean} mirror
 * @property {boolean} exact       must every composed picture have just the format's size?
 */

/**
 * What the page tells its worker.
 * - `source`: where pictures come from now; null while there is none
 * - `frame`: one picture, where the browser has no stream of them
 * - `output`: where composed pictures go when a MediaRecorder encodes them
 * - `pull`: the page wants to be told when to give a picture: hidden, it gets no callbacks of its own
 * - `media`: bytes of recording number `take`
 * @typedef {{do: "start", start: Start, sound: MessagePort | null}
 *   | {do: "source", readable: ReadableStream<VideoFrame> | null}
 *   | {do: "frame", frame: VideoFrame}
 *   | {do: "output", writable: WritableStream<VideoFrame>}
 *   | {do: "media", take: number, data: ArrayBuffer}
 *   | {do: "mirror", on: boolean}
 *   | {do: "blank", on: boolean}
 *   | {do: "pull", on: boolean}
 *   | {do: "finished", take: number}
 *   | {do: "stop"}} Order
 */

/**
 * Where a broadcast stands.
 * - `connecting`: no server has taken it yet
 * - `live`
 * - `waiting`: the connection is gone, the next try comes in `seconds`
 * - `over`: nothing more is tried
 * @typedef {{phase: "connecting", server: string}
 *   | {phase: "live", server: string}
 *   | {phase: "waiting", why: Trouble, code: number, reason: string, seconds: number}
 *   | {phase: "over", why: Trouble | null, code: number, reason: string}} Progress
 */

/**
 * Why a connection ended; each has its words in `words/`.
 * @typedef {"key" | "kicked" | "inUse" | "ownConnection" | "busy" | "unusable" | "policy" | "tooBig" | "shutdown"
 *   | "closed" | "lost" | "unreachable" | "tls" | "server" | "silent" | "encoder"} Trouble
 */

/**
 * Once a second. Bits a second; frames since the start.
 * @typedef {object} Figures
 * @property {number} bitrate      sent
 * @property {number} wanted       what the encoder is asked for now
 * @property {number} rate         frames sent a second
 * @property {number} frames       sent
 * @property {number} late         left out: the network was too slow
 * @property {number} busy         left out: this device was too slow
 * @property {number} queued       seconds of media that wait for the network
 * @property {boolean} slow        is the bit rate lowered because of the network?
 */

/**
 * What the server says as text.
 * @typedef {{type: "accepted", protocol?: string, video?: string | null, audio?: string | null}
 *   | {type: "stats", bitrate?: number, received?: number, frames?: number, dropped?: number, behind?: number, fps?: number}
 *   | {type: "error", code?: number, reason?: string}} ServerLine
 */

/**
 * What the worker tells its page.
 * - `record`: begin recording number `take` at `bitrate`; an older one is over
 * - `hold`: pause (or go on with) recording until the network has caught up
 * - `grab`: it is time for a picture (see `pull`)
 * @typedef {{say: "progress", progress: Progress}
 *   | {say: "figures", figures: Figures}
 *   | {say: "server", line: ServerLine}
 *   | {say: "record", take: number, bitrate: number}
 *   | {say: "hold", on: boolean}
 *   | {say: "finish", take: number}
 *   | {say: "grab"}} Report
 */

/**
 * Not in the type checker's library yet.
 * @typedef {{readable: ReadableStream<VideoFrame>}} TrackProcessor
 * @typedef {MediaStreamTrack & {writable: WritableStream<VideoFrame>}} TrackGenerator
 */

export {};
