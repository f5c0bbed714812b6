// The vendored build of dash.js, which the player pages import beside themselves.
export * from "dashjs";
