/** The page of HLS with MPEG-TS segments: the source, and the ladder's renditions at one address. */

import { hlsEngine, unsupported } from "./hls-engine.js";
import { start } from "./page.js";
import { AUTO } from "./quality.js";

start({
  label: "HLS",
  output: "hls",
  media: "live.m3u8",
  others: ({ ladder, renditions = [] }) => ladder === "hls"
    ? [{ id: AUTO, bitrate: 0 }, ...renditions.map(({ name: id, bitrate }) => ({ id, bitrate }))].map((one) =>
      ({ ...one, file: "index.m3u8" }))
    : [],
  unsupported,
  open: hlsEngine(false),
});
