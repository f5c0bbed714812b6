/** The element `<moq-watch>`, which `gateway/console/players/moq-engine.js` uses. */

export { default as MoqWatch } from "@moq/watch/element";
