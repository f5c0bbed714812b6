/** Shows decoded pictures in a video element, so that its controls, full screen and picture in picture work as always. */

/**
 * Shows frames and closes them.
 * @typedef {{show: (frame: VideoFrame) => void, close: () => void}} Sink
 */

/** Missing in the type checker's library; only Chromium has it in pages. */
/** @typedef {MediaStreamTrack & {writable: WritableStream<VideoFrame>}} Generator */
/** @type {{MediaStreamTrackGenerator?: new (init: {kind: "video"}) => Generator}} */
const offered = /** @type {any} */ (globalThis);

/** @returns {boolean} whether this browser has a way */
export const canShow = () => offered.MediaStreamTrackGenerator !== undefined || "captureStream" in HTMLCanvasElement.prototype;

/**
 * @param {HTMLVideoElement} video
 * @returns {Sink}
 */
export function openSink(video) {
  const sink = offered.MediaStreamTrackGenerator ? generated(new offered.MediaStreamTrackGenerator({ kind: "video" }))
    : painted();
  video.srcObject = new MediaStream([sink.track]);
  return {
    show: sink.show,
    close() {
      video.srcObject = null;
      sink.track.stop();
    },
  };
}

/** @param {Generator} track  takes frames as they are, without a copy */
function generated(track) {
  const writer = track.writable.getWriter();
  return {
    track,
    show: (/** @type {VideoFrame} */ frame) => {
      // The track closes the frame; a stopped one refuses it.
      writer.write(frame).catch(() => frame.close());
    },
  };
}

/** Firefox and Safari: a canvas, which adds up to one refresh of the screen. */
function painted() {
  const canvas = document.createElement("canvas");
  const paper = canvas.getContext("2d", { alpha: false });
  // Without a frame rate, WebKitGTK 2.50 shows the first picture only. Firefox has no way to ask for each picture.
  const asks = "CanvasCaptureMediaStreamTrack" in globalThis;
  const [track] = (asks ? canvas.captureStream(0) : canvas.captureStream()).getVideoTracks();
  if (!paper || !track) throw new Error("this browser shows no canvas as a video");
  return {
    track,
    show: (/** @type {VideoFrame} */ frame) => {
      if (canvas.width !== frame.displayWidth) canvas.width = frame.displayWidth;
      if (canvas.height !== frame.displayHeight) canvas.height = frame.displayHeight;
      paper.drawImage(frame, 0, 0, canvas.width, canvas.height);
      if (asks) /** @type {CanvasCaptureMediaStreamTrack} */ (track).requestFrame();
      frame.close();
    },
  };
}
