/** The page of the shortest delay; each rendition is a separate stream with its own address. */

import { instantEngine } from "./instant-engine.js";
import { start } from "./page.js";

start({ label: "WS-FLV", output: "flv", protocol: "instant", media: "live.flv", unsupported: null, open: instantEngine });
