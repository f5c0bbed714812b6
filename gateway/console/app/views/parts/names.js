/** The usual names of formats and protocols, equal in all languages. */

/** @type {Readonly<Record<string, string>>} */
const PROTOCOLS = { flv: "HTTP-FLV", wsflv: "WS-FLV", rtmp: "RTMP", hls: "HLS", cmaf: "LL-HLS", dash: "DASH", ladder: "HLS ABR",
  ws: "WebSocket", wss: "WebSocket (TLS)", webrtc: "WebRTC", admin: "Admin" };

/** @type {Readonly<Record<string, string>>} */
const CODECS = { h264: "H.264", h265: "H.265", hevc: "H.265", av1: "AV1", vp8: "VP8", vp9: "VP9", aac: "AAC", opus: "Opus",
  mp3: "MP3", flac: "FLAC", ac3: "AC-3", eac3: "E-AC-3" };

/** @param {string} name  as the API calls it */
export const protocolName = (name) => PROTOCOLS[name] ?? name.toUpperCase();

/** @param {string} name  as the API calls it */
export const codecName = (name) => CODECS[name.toLowerCase().replaceAll(/[^a-z0-9]/g, "")] ?? name;
