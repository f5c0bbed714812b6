/** The worker: executes the messages of the page. A hidden tab does not slow it down. */

import { ContainerPush } from "./push-container.js";
import { FramesPush } from "./push-frames.js";

/** @typedef {import("./types.js").Order} Order */

/** @type {FramesPush | ContainerPush | null} */
let push = null;

/** @param {import("./types.js").Report} report */
const report = (report) => postMessage(report);

addEventListener("message", (/** @type {MessageEvent<Order>} */ { data: order }) => {
  if (order.do === "start") {
    push = order.start.transport === "frames"
      ? new FramesPush(order.start, order.sound, report)
      : new ContainerPush(order.start, report);
    push.begin();
    return;
  }
  if (push === null) return;
  switch (order.do) {
    case "source": void push.source.read(order.readable); break;
    case "frame": push.source.take(order.frame); break;
    case "pull": push.source.pulls = order.on; break;
    case "mirror": push.source.mirror = order.on; break;
    case "blank": push.source.blank = order.on; break;
    case "output": if (push instanceof ContainerPush) push.output = order.writable; break;
    case "media": if (push instanceof ContainerPush) push.media(order.take, order.data); break;
    case "finished": if (push instanceof ContainerPush) push.finished(order.take); break;
    case "stop": void push.stop(); break;
    default: throw new Error(`unknown order ${JSON.stringify(order)}`);
  }
});
