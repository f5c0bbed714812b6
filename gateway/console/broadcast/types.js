/** The types of the messages between the page and its worker (types only; nothing here runs). */

/**
 * The way of sending: WebCodecs frames, the bytes of a MediaRecorder, or WebRTC (WHIP).
 * @typedef {"frames" | "container" | "whip"} Transport
 */

/**
 * A format that an encoder of this browser supports.
 * @typedef {{codec: string, width: number, height: number, frameRate: number, bitrate: number}} PictureFormat
 * @typedef {{codec: "opus" | "mp4a.40.2", sampleRate: number, channels: number, bitrate: number}} SoundFormat
 */

/**
 * The parameters of a broadcast.
 * @typedef {object} Start
 * @property {Transport} transport
 * @property {string[]} urls       of the servers, the preferred one first
 * @property {PictureFormat} picture
 * @property {SoundFormat} sound
 * @property {boolean} mirror
 * @property {boolean} exact       whether every composed picture must have exactly the format's size
 * @property {boolean} drawn       whether the page draws the pictures itself, so that the worker gets none
 */

/**
 * Messages of the page to its worker.
 * - `source`: the source of pictures; null while there is none
 * - `frame`: one picture, if the browser has no picture streams
 * - `drawn`: the page has drawn one picture for its MediaRecorder
 * - `output`: the destination of composed pictures if a MediaRecorder encodes them
 * - `pull`: the worker has to ask the page for each picture, because a hidden page gets no callbacks
 * - `media`: bytes of recording number `take`
 * @typedef {{do: "start", start: Start, sound: MessagePort | null}
 *   | {do: "source", readable: ReadableStream<VideoFrame> | null}
 *   | {do: "frame", frame: VideoFrame}
 *   | {do: "drawn"}
 *   | {do: "output", writable: WritableStream<VideoFrame>}
 *   | {do: "media", take: number, data: ArrayBuffer}
 *   | {do: "mirror", on: boolean}
 *   | {do: "blank", on: boolean}
 *   | {do: "pull", on: boolean}
 *   | {do: "finished", take: number}
 *   | {do: "stop"}} Order
 */

/**
 * The state of a broadcast.
 * - `connecting`: no server has accepted it yet
 * - `accepted`: the server has no picture yet
 * - `live`: the server has pictures
 * - `waiting`: the connection is lost, the next attempt is in `seconds`
 * - `over`: there are no more attempts
 * @typedef {{phase: "connecting", server: string}
 *   | {phase: "accepted", server: string}
 *   | {phase: "live", server: string}
 *   | {phase: "waiting", why: Trouble, code: number, reason: string, seconds: number}
 *   | {phase: "over", why: Trouble | null, code: number, reason: string}} Progress
 */

/**
 * The reason why a connection ended; each has its text in `words/`.
 * @typedef {"key" | "kicked" | "inUse" | "ownConnection" | "busy" | "stalled" | "unusable" | "policy" | "tooBig" | "shutdown"
 *   | "closed" | "lost" | "unreachable" | "tls" | "server" | "silent" | "encoder" | "noWhip"} Trouble
 */

/**
 * Sent once a second. Bit rates in bits per second; frames since the start.
 * @typedef {object} Figures
 * @property {number} bitrate      sent
 * @property {number} wanted       the encoder's current target
 * @property {number} rate         frames sent per second
 * @property {number} frames       sent
 * @property {number} late         left out: the network was too slow
 * @property {number} busy         left out: this device was too slow
 * @property {number} queued       seconds of media that wait for the network
 * @property {boolean} slow        whether the bit rate is lowered because of the network
 * @property {number} [loss]       share of the packets that were lost; only of WebRTC
 * @property {number} [roundTrip]  seconds to the server and back; only of WebRTC
 */

/**
 * Text messages of the server.
 * @typedef {{type: "accepted", protocol?: string, video?: string | null, audio?: string | null}
 *   | {type: "stats", bitrate?: number, received?: number, frames?: number, dropped?: number, behind?: number, fps?: number}
 *   | {type: "error", code?: number, reason?: string}} ServerLine
 */

/**
 * Messages of the worker to its page.
 * - `record`: begin recording number `take` at `bitrate`; an older one ends
 * - `hold`: pause (or continue) recording until the queue is short again
 * - `grab`: send a picture now (see `pull`)
 * @typedef {{say: "progress", progress: Progress}
 *   | {say: "figures", figures: Figures}
 *   | {say: "server", line: ServerLine}
 *   | {say: "record", take: number, bitrate: number}
 *   | {say: "hold", on: boolean}
 *   | {say: "finish", take: number}
 *   | {say: "grab"}} Report
 */

/**
 * Types that are missing in the type checker's library.
 * @typedef {{readable: ReadableStream<VideoFrame>}} TrackProcessor
 * @typedef {MediaStreamTrack & {writable: WritableStream<VideoFrame>}} TrackGenerator
 */

export {};
