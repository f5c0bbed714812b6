/** Style sheets that only some views need. */

/** @param {string} url @returns {Promise<unknown>} settles when the style sheet counts, or cannot be loaded */
export function loadStyle(url) {
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = url;
  const done = new Promise((settle) => { style.onload = style.onerror = settle; });
  document.head.append(style);
  return done;
}
