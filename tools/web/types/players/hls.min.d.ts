// The vendored build of hls.js, which the player pages import beside themselves.
export { default } from "hls.js";
export * from "hls.js";
