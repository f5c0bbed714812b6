/** The page of WebRTC: one address, whose sound and picture come by WHEP. */

import { start } from "./page.js";
import { unsupported, whepEngine } from "./whep-engine.js";

start({ label: "WebRTC", output: "whep", media: "whep", unsupported, open: whepEngine });
