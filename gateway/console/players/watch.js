/** The watch page of a channel: plays it in the best way of this browser, and in the next one if that fails. */

import { keep, recall } from "./memory.js";
import { startBest } from "./page.js";
import { AUTO } from "./quality.js";
import { streamName } from "./status.js";
import { View } from "./view.js";
import { WatchLayout } from "./watch-layout.js";
import { Ways, WAYS } from "./ways.js";

const ways = new Ways(WAYS, recall("way") ?? AUTO);
const layout = new WatchLayout(ways, (wanted) => {
  ways.wanted = wanted;
  keep("way", wanted);
  restart();
});
const restart = startBest(ways, new View(streamName(), { label: "", media: "live.m3u8" }, layout));
