/** The DASH page. */

import { dashEngine, unsupported } from "./dash-engine.js";
import { start } from "./page.js";

start({ label: "DASH", output: "cmaf", protocol: "dash", media: "manifest.mpd", unsupported, open: dashEngine });
