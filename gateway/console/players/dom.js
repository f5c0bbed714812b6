/** Makes elements. Text is always text, never markup. */

/** @typedef {string | number | Node | null | false} Child */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | boolean | null | ((event: any) => void)>} [attributes]  functions are listeners: `onclick`
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  for (const child of children) if (child !== null && child !== false) element.append(child instanceof Node ? child : String(child));
  return element;
}

// Outlines of 24 × 24, drawn for these pages.
const SHAPES = {
  play: "M8 5.2v13.6L19 12z",
  pause: "M7 5h3.6v14H7zM13.4 5H17v14h-3.6z",
  sound: "M3.5 9.2v5.6h3.6L12 19V5L7.1 9.2zM14.4 8.3v7.4a4.4 4.4 0 0 0 0-7.4zM14.4 4.6v1.9a5.9 5.9 0 0 1 0 11v1.9a7.8 7.8 0 0 0 0-14.8z",
  mute: "M3.5 9.2v5.6h3.6L12 19V5L7.1 9.2zM21 9.6 19.6 8.2 17.2 10.6 14.8 8.2 13.4 9.6 15.8 12 13.4 14.4 14.8 15.8 17.2 13.4 19.6 15.8 21 14.4 18.6 12z",
  share: "M17.5 3.5a3 3 0 0 0-2.9 3.8L8.9 10.5a3 3 0 1 0 0 3l5.7 3.2a3 3 0 1 0 .8-1.7l-5.5-3.1v-.1l5.5-3.1a3 3 0 1 0 2.1-5.2z",
  pip: "M3 5h18v14H3zm1.9 1.9v10.2h14.2V6.9zM12 11.4h5.6v4.2H12z",
  full: "M4 4h6v2H6v4H4zM14 4h6v6h-2V6h-4zM4 14h2v4h4v2H4zM18 14h2v6h-6v-2h4z",
  small: "M8 4h2v6H4V8h4zM14 4h2v4h4v2h-6zM4 14h6v6H8v-4H4zM14 14h6v2h-4v4h-2z",
  gear: "M10.3 2h3.4l.5 2.6 1.9.8 2.2-1.5 2.4 2.4-1.5 2.2.8 1.9 2.6.5v3.4l-2.6.5-.8 1.9 1.5 2.2-2.4 2.4-2.2-1.5-1.9.8-.5 2.6h-3.4l-.5-2.6"
    + "-1.9-.8-2.2 1.5-2.4-2.4 1.5-2.2-.8-1.9L1.4 14.1v-3.4L4 10.2l.8-1.9-1.5-2.2 2.4-2.4 2.2 1.5 1.9-.8zM12 8.6a3.4 3.4 0 1 0 0 6.8 3.4 3.4 0 0 0 0-6.8z",
  captions: "M4 5h16a1.5 1.5 0 0 1 1.5 1.5v11A1.5 1.5 0 0 1 20 19H4a1.5 1.5 0 0 1-1.5-1.5v-11A1.5 1.5 0 0 1 4 5z"
    + "M11 10.7v-.9A1.2 1.2 0 0 0 9.8 8.6H7A1.2 1.2 0 0 0 5.8 9.8v4.4A1.2 1.2 0 0 0 7 15.4h2.8a1.2 1.2 0 0 0 1.2-1.2v-.9H9.3v.5H7.5v-3.6h1.8v.5z"
    + "M18.2 10.7v-.9A1.2 1.2 0 0 0 17 8.6h-2.8A1.2 1.2 0 0 0 13 9.8v4.4a1.2 1.2 0 0 0 1.2 1.2H17a1.2 1.2 0 0 0 1.2-1.2v-.9h-1.7v.5h-1.8v-3.6h1.8v.5z",
  copy: "M8 3h11v13h-2V5H8zM5 7h10v14H5zm2 2v10h6V9z",
  close: "m6.4 5 5.6 5.6L17.6 5 19 6.4 13.4 12l5.6 5.6-1.4 1.4-5.6-5.6L6.4 19 5 17.6l5.6-5.6L5 6.4z",
};

/** @typedef {keyof typeof SHAPES} Shape */

/**
 * @param {Shape} shape
 * @returns {SVGSVGElement}
 */
export function icon(shape) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", SHAPES[shape]);
  path.setAttribute("fill-rule", "evenodd");
  svg.append(path);
  return svg;
}
