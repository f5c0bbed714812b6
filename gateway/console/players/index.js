/** The page of HLS with MPEG-TS segments: the source, and the ladder's renditions at one address. */

import { hlsEngine, unsupported } from "./hls-engine.js";
import { start } from "./page.js";
import { hlsRenditions } from "./renditions.js";

start({ label: "HLS", output: "hls", media: "live.m3u8", others: hlsRenditions, unsupported, open: hlsEngine(false) });
