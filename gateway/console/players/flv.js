/** One idea: the HTTP-FLV page; its renditions are streams of their own, at addresses of their own. */

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
