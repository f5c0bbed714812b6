/** The page of low-latency HLS with CMAF parts. */

import { hlsEngine, unsupported } from "./hls-engine.js";
import { start } from "./page.js";

start({ label: "LL-HLS", output: "cmaf", media: "master.m3u8", unsupported, open: hlsEngine(true) });
