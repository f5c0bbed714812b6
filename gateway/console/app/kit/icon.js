/** The console's icons, 24 × 24 strokes in the colour of the text around them. */

import { html } from "../html.js";

/** @satisfies {Record<string, string[]>} */
const PATHS = {
  channels: ["M12 12h.01", "M8.5 15.5a5 5 0 0 1 0-7", "M15.5 8.5a5 5 0 0 1 0 7", "M5.6 18.4a9 9 0 0 1 0-12.8",
    "M18.4 5.6a9 9 0 0 1 0 12.8"],
  live: ["M3 12h4l2.5-7 5 14 2.5-7h4"],
  recordings: ["M4 5h16v14H4z", "M8 5v14", "M16 5v14", "M4 9.5h4", "M4 14.5h4", "M16 9.5h4", "M16 14.5h4"],
  films: ["M3 9h18v11H3z", "M3 9l1-4 16 0 1 4", "M8 5 7 9", "M13 5l-1 4", "M18 5l-1 4"],
  events: ["M5 6h.01", "M9 6h11", "M5 12h.01", "M9 12h11", "M5 18h.01", "M9 18h11"],
  bell: ["M6 16.5V11a6 6 0 0 1 12 0v5.5l1.5 1.5h-15z", "M10 20.5a2 2 0 0 0 4 0"],
  domains: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M3 12h18", "M12 3c3 3 3.6 6 3.6 9s-.6 6-3.6 9c-3-3-3.6-6-3.6-9S9 6 12 3z"],
  ivs: ["M7 18.5a4.5 4.5 0 0 1-.4-9 6 6 0 0 1 11.3 1.6A3.8 3.8 0 0 1 17.5 18.5z"],
  users: ["M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z", "M2.5 20a6.5 6.5 0 0 1 13 0", "M16 4.3a3.5 3.5 0 0 1 0 6.4",
    "M18 14.2a6.5 6.5 0 0 1 3.5 5.8"],
  system: ["M4 17a8.5 8.5 0 1 1 16 0", "M12 15.5 16 9.5", "M12 15.5h.01"],
  docs: ["M6 3h8l4 4v14H6z", "M14 3v4h4", "M9 12h6", "M9 16h6"],
  plus: ["M12 5v14", "M5 12h14"],
  search: ["M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14z", "M16 16l4.5 4.5"],
  refresh: ["M20 11a8 8 0 0 0-14-4.5L4 9", "M4 4v5h5", "M4 13a8 8 0 0 0 14 4.5L20 15", "M20 20v-5h-5"],
  download: ["M12 4v11", "M7 10.5l5 5 5-5", "M4.5 20h15"],
  upload: ["M12 16V5", "M7 9.5l5-5 5 5", "M4.5 20h15"],
  copy: ["M9 9h11v11H9z", "M5 15H4V4h11v1"],
  check: ["M4.5 12.5l5 5 10-11"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  edit: ["M4 20h4L19 9l-4-4L4 16z", "M13 7l4 4"],
  delete: ["M4 7h16", "M9 7V4h6v3", "M6 7l1 13h10l1-13", "M10 11v5", "M14 11v5"],
  more: ["M5 12h.01", "M12 12h.01", "M19 12h.01"],
  left: ["M14.5 5.5 8 12l6.5 6.5"],
  right: ["M9.5 5.5 16 12l-6.5 6.5"],
  up: ["M5.5 14.5 12 8l6.5 6.5"],
  down: ["M5.5 9.5 12 16l6.5-6.5"],
  first: ["M17.5 5.5 11 12l6.5 6.5", "M6.5 5.5v13"],
  last: ["M6.5 5.5 13 12l-6.5 6.5", "M17.5 5.5v13"],
  external: ["M14 4h6v6", "M20 4l-9 9", "M18 14v6H4V6h6"],
  play: ["M7 4.5v15l12-7.5z"],
  stop: ["M6 6h12v12H6z"],
  eye: ["M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z", "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z"],
  "eye-off": ["M4 4l16 16", "M9.9 5.8A9 9 0 0 1 12 5.5c6 0 9.5 6.5 9.5 6.5a17 17 0 0 1-3 3.7",
    "M6.3 7.4A16 16 0 0 0 2.5 12S6 18.5 12 18.5a9 9 0 0 0 4.6-1.3", "M10 10a3 3 0 0 0 4 4.2"],
  sun: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M12 2.5v2", "M12 19.5v2", "M2.5 12h2", "M19.5 12h2", "M5.3 5.3l1.4 1.4",
    "M17.3 17.3l1.4 1.4", "M5.3 18.7l1.4-1.4", "M17.3 6.7l1.4-1.4"],
  moon: ["M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z"],
  auto: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 3v18", "M15 6.2v11.6", "M18 8.5v7"],
  language: ["M3 6h10", "M8 4v2", "M11 6c-.8 4-3.4 7-7 8.5", "M5.5 9c1 2.5 3 4.5 5.5 5.5", "M12 20l4.5-10L21 20", "M13.5 16.8h6"],
  menu: ["M4 7h16", "M4 12h16", "M4 17h16"],
  logout: ["M10 4H5v16h5", "M15 8l4 4-4 4", "M19 12H9.5"],
  user: ["M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8z", "M4.5 20.5a7.5 7.5 0 0 1 15 0"],
  warning: ["M12 4 2.8 20h18.4z", "M12 10v5", "M12 17.5h.01"],
  info: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 11v5.5", "M12 7.8h.01"],
  camera: ["M3 7h12v10H3z", "M15 11l6-3.5v9L15 13"],
  kick: ["M12 3v8", "M7 6.5a7.5 7.5 0 1 0 10 0"],
  key: ["M8 12a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M11 13l9-9", "M16 8l3 3"],
  qr: ["M4 4h6v6H4z", "M14 4h6v6h-6z", "M4 14h6v6H4z", "M14 14h3v3h-3z", "M20 14v.01", "M20 20h-3", "M20 17.5V20"],
  image: ["M4 5h16v14H4z", "M4 16l4.5-4.5 4 4 3-3L20 17", "M15.5 8.5h.01"],
  clock: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 7v5.5l3.5 2"],
  record: ["M12 6a6 6 0 1 0 0 12 6 6 0 0 0 0-12z"],
  relay: ["M4 12h12", "M11 7l5 5-5 5", "M20 5v14"],
  shield: ["M12 3l8 3v6c0 5-3.5 8-8 9-4.5-1-8-4-8-9V6z"],
  text: ["M5 6h14", "M12 6v13", "M9 19h6"],
  server: ["M4 4h16v7H4z", "M4 13h16v7H4z", "M7.5 7.5h.01", "M7.5 16.5h.01"],
};

/** @typedef {keyof typeof PATHS} IconName */

/**
 * An icon beside text. It is hidden from assistive technology, so its parent element needs a name.
 * @param {{name: IconName, size?: number, class?: string}} props
 */
export function Icon({ name, size = 18, class: more }) {
  return html`<svg class=${`icon ${more ?? ""}`} viewBox="0 0 24 24" width=${size} height=${size} aria-hidden="true" focusable="false">
    ${PATHS[name].map((d) => html`<path d=${d} />`)}
  </svg>`;
}
