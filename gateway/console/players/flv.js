/** The HTTP-FLV page; each rendition is a separate stream with its own address. */

import { flvEngine, flvUnsupported } from "./flv-engine.js";
import { start } from "./page.js";
import { streamName } from "./status.js";

start({
  label: "HTTP-FLV",
  output: "flv",
  media: "live.flv",
  others: ({ renditions = [] }) => renditions.filter(({ outputs }) => outputs.includes("flv"))
    .map(({ name, bitrate }) => ({ id: name, file: `../${encodeURIComponent(`${streamName()}@${name}`)}/live.flv`, bitrate })),
  unsupported: flvUnsupported(),
  open: flvEngine,
});
