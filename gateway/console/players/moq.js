/** The page of Media over QUIC: one address, whose session the gateway allows over HTTP first. */

import { moqEngine, unsupported } from "./moq-engine.js";
import { start } from "./page.js";

start({ label: "MoQ", output: "moq", media: "moq", unsupported, open: moqEngine });
