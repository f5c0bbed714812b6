/** The worker: executes the messages of the page. A hidden tab does not slow it down. */

import { ContainerPush } from "./push-container.js";
import { FramesPush } from "./push-frames.js";
import { PicturesPush } from "./push-pictures.js";

/** @typedef {import("./types.js").Order} Order */

/** @type {FramesPush | ContainerPush | PicturesPush | null} */
let push = null;

/** @param {import("./types.js").Report} report */
const report = (report) => postMessage(report);

addEventListener("message", (/** @type {MessageEvent<Order>} */ { data: order }) => {
  if (order.do === "start") {
    switch (order.start.transport) {
      case "frames": push = new FramesPush(order.start, order.sound, report); break;
      case "container": push = new ContainerPush(order.start, report); break;
      case "whip": push = new PicturesPush(order.start, report);
    }
    push.begin();
    return;
  }
  if (push === null) return;
  switch (order.do) {
    case "source": void push.source.read(order.readable); break;
    case "frame": push.source.take(order.frame); break;
    case "drawn": if (push instanceof ContainerPush) push.drawn(); break;
    case "pull": push.source.pulls = order.on; break;
    case "mirror": push.source.mirror = order.on; break;
    case "blank": push.source.blank = order.on; break;
    case "output": if (!(push instanceof FramesPush)) push.output = order.writable; break;
    case "media": if (push instanceof ContainerPush) push.media(order.take, order.data); break;
    case "finished": if (push instanceof ContainerPush) push.finished(order.take); break;
    case "stop": void push.stop(); break;
    default: throw new Error(`unknown order ${JSON.stringify(order)}`);
  }
});
