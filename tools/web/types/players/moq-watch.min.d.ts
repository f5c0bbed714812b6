// The vendored bundle of @moq/watch, as far as the player pages use it.
interface Getter<T> {
  peek(): T;
}

/** The element `<moq-watch>`. */
export class MoqWatch extends HTMLElement {
  connection: {
    delay: { initial: number; multiplier: number; max: number; timeout?: number };
    websocket: { enabled?: boolean } | undefined;
    webtransport?: { serverCertificateHashes?: { value: string }[] };
    status: Getter<"connecting" | "connected" | "disconnected">;
    closed: Promise<void>;
  };
  sync: { out: { buffer: Getter<number> } };
  video: { out: { frame: Getter<VideoFrame | undefined> } };
  signals: { subscribe<T>(signal: Getter<T>, fn: (value: T) => void): void; close(): void };
  volume: number;
  muted: boolean;
  paused: boolean;
}
