/** One idea: the HLS page, whole MPEG-TS segments. */

import { hlsEngine, unsupported } from "./hls-engine.js";
import { start } from "./page.js";

start({ label: "HLS", output: "hls", media: "live.m3u8", unsupported, open: hlsEngine(false) });
