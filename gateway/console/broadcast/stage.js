/** Converts the pictures of any camera or screen to one size for the whole broadcast. */

/**
 * Players and recordings need a constant size. If a phone is turned or the camera changes, the picture gets bars.
 */
export class Stage {
  mirror = false;
  /** Whether pictures in RGB are drawn too: WebKitGTK 2.50 cannot encode those of a video element. */
  drawsRgb = false;
  #width; #height; #exact;
  /** @type {{canvas: OffscreenCanvas, draw: OffscreenCanvasRenderingContext2D} | null} */
  #drawing = null;
  /** Color space of the last picture. @type {VideoColorSpaceInit | null} */
  #colors = null;
  /** @type {Uint8Array<ArrayBuffer> | null} */
  #dark = null;

  /**
   * @param {number} width
   * @param {number} height
   * @param {boolean} exact  whether a picture of the same shape but another size is scaled here and not by the encoder
   */
  constructor(width, height, exact) {
    this.#width = width;
    this.#height = height;
    this.#exact = exact;
  }

  /**
   * @param {VideoFrame} frame  the caller has to close it
   * @param {number} timestamp  µs
   * @returns {VideoFrame} the caller has to close it too
   */
  compose(frame, timestamp) {
    const [w, h] = [frame.displayWidth, frame.displayHeight];
    const sameSize = w === this.#width && h === this.#height;
    const sameShape = Math.abs(w * this.#height - h * this.#width) < 0.01 * h * this.#width;
    // Encoders may not support a format without a name (depth cameras, protected memory). Drawing it converts it.
    if (frame.format !== null && !(this.drawsRgb && /^(RGB|BGR)/.test(frame.format))) {
      this.#colors = frame.colorSpace.toJSON();
      if (!this.mirror && (sameSize || (sameShape && !this.#exact))) return new VideoFrame(frame, { timestamp });
    }
    const { canvas, draw } = this.#canvas();
    const scale = Math.min(this.#width / w, this.#height / h);
    const [dw, dh] = [Math.round(w * scale), Math.round(h * scale)];
    draw.fillStyle = "#000";
    draw.fillRect(0, 0, this.#width, this.#height);
    draw.setTransform(this.mirror ? -1 : 1, 0, 0, 1, this.mirror ? this.#width : 0, 0);
    draw.drawImage(frame, Math.round((this.#width - dw) / 2), Math.round((this.#height - dh) / 2), dw, dh);
    draw.resetTransform();
    return new VideoFrame(canvas, { timestamp });
  }

  /**
   * Makes the blank picture for a missing camera. It has the color space of the camera before, because another one would
   * change the encoder's configuration, and players would have to restart.
   * @param {number} timestamp  µs
   */
  blank(timestamp) {
    const pixels = this.#width * this.#height;
    this.#dark ??= new Uint8Array(pixels * 1.5).fill(28, 0, pixels).fill(128, pixels);
    const colors = this.#colors === null ? {} : { colorSpace: this.#colors };
    return new VideoFrame(this.#dark, {
      format: "I420", codedWidth: this.#width, codedHeight: this.#height, timestamp, ...colors,
    });
  }

  #canvas() {
    if (this.#drawing === null) {
      const canvas = new OffscreenCanvas(this.#width, this.#height);
      const draw = canvas.getContext("2d", { alpha: false, desynchronized: true });
      if (draw === null) throw new Error("this browser cannot draw");
      this.#drawing = { canvas, draw };
    }
    return this.#drawing;
  }
}
