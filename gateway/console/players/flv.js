/** The HTTP-FLV page; each rendition is a separate stream with its own address. */

import { flvEngine, flvUnsupported } from "./flv-engine.js";
import { start } from "./page.js";

start({ label: "HTTP-FLV", output: "flv", media: "live.flv", unsupported: flvUnsupported(), open: flvEngine });
