/** One idea: whatever a camera or screen gives becomes pictures of one size, for as long as the broadcast lasts. */

/**
 * Viewers' players and recordings want one size; a phone that is turned, or another camera, gets bars at its sides.
 */
export class Stage {
  mirror = false;
  #width; #height; #exact;
  /** @type {{canvas: OffscreenCanvas, draw: OffscreenCanvasRenderingContext2D} | null} */
  #drawing = null;
  /** Of the last picture that came. @type {VideoColorSpaceInit | null} */
  #colors = null;
  /** @type {Uint8Array<ArrayBuffer> | null} */
  #dark = null;

  /**
   * @param {number} width
   * @param {number} height
   * @param {boolean} exact  is a picture of the same shape but another size to be scaled here, not by the encoder?
   */
  constructor(width, height, exact) {
    this.#width = width;
    this.#height = height;
    this.#exact = exact;
  }

  /**
   * @param {VideoFrame} frame  stays the caller's
   * @param {number} timestamp  µs
   * @returns {VideoFrame} the caller's too
   */
  compose(frame, timestamp) {
    const [w, h] = [frame.displayWidth, frame.displayHeight];
    const sameSize = w === this.#width && h === this.#height;
    const sameShape = Math.abs(w * this.#height - h * this.#width) < 0.01 * h * this.#width;
    // A format without a name is one that no encoder need know (depth cameras, protected memory): drawn, it is any other.
    if (frame.format !== null) {
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
   * What viewers see while there is no camera. In the colours of the camera before: others would be another configuration
   * of the encoder, which players have to begin anew for.
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
