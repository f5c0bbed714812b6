/** Shows the page in an operator's or a channel's colour, with contrasts at which texts stay readable in both themes. */

/** @typedef {[number, number, number]} Rgb  each 0 to 255 */

const WHITE = /** @type {Rgb} */ ([255, 255, 255]);
const INK = /** @type {Rgb} */ ([5, 20, 28]); // dark texts, and the dark end of mixtures
const TEXT = 4.6; // WCAG asks for 4.5 : 1 of texts
const EDGE = 3.1; // and for 3 : 1 of controls
/** The lightest and the darkest ground of each theme (tokens.css), and the end to which a colour is moved to stand out. */
const THEMES = {
  light: { grounds: /** @type {Rgb[]} */ ([[255, 255, 255], [219, 227, 232]]), to: INK },
  dark: { grounds: /** @type {Rgb[]} */ ([[34, 49, 59], [11, 19, 24]]), to: WHITE },
};

/** @param {string} color  `#rrggbb` @returns {Rgb | null} */
export function rgbOf(color) {
  const found = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(color);
  return found ? [parseInt(found[1] ?? "", 16), parseInt(found[2] ?? "", 16), parseInt(found[3] ?? "", 16)] : null;
}

/** Returns the relative luminance, WCAG 2.2. @param {Rgb} rgb */
function luminance([red, green, blue]) {
  const linear = (/** @type {number} */ part) => (part <= 10.31 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
}

/** @param {Rgb} a @param {Rgb} b @returns {number} */
export function contrast(a, b) {
  const [dark = 0, light = 0] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
}

/** @param {Rgb} from @param {Rgb} to @param {number} share @returns {Rgb} */
const mix = (from, to, share) => /** @type {Rgb} */ (from.map((part, i) => Math.round(part + ((to[i] ?? 0) - part) * share)));

/** Moves a colour towards `to` until it stands out from all grounds. @param {Rgb} color @param {Rgb[]} grounds @param {Rgb} to @param {number} least */
function readable(color, grounds, to, least) {
  for (let share = 0; share < 1; share += 0.05) {
    const moved = mix(color, to, share);
    if (grounds.every((ground) => contrast(moved, ground) >= least)) return moved;
  }
  return to;
}

/** @param {Rgb} color @param {keyof typeof THEMES} theme @returns {Record<string, Rgb>} the tokens of a theme */
export function tokens(color, theme) {
  const { grounds, to } = THEMES[theme];
  const accent = readable(color, grounds, to, EDGE);
  const ink = contrast(accent, WHITE) >= contrast(accent, INK) ? WHITE : INK;
  const soft = mix(grounds[theme === "light" ? 0 : 1] ?? WHITE, accent, 0.12);
  return {
    "--accent": readable(accent, [ink], ink === WHITE ? INK : WHITE, TEXT),
    "--accent-hover": mix(accent, ink === WHITE ? INK : WHITE, 0.15),
    "--accent-ink": ink,
    "--accent-soft": soft,
    "--accent-text": readable(color, [...grounds, soft], to, TEXT),
  };
}

const sheet = "adoptedStyleSheets" in document ? new CSSStyleSheet() : null; // none in Safari before 16.4

/** Shows the page in a colour; "": in its own. @param {string} color */
export function accent(color) {
  if (!sheet) return;
  const rgb = rgbOf(color);
  const rules = (/** @type {keyof typeof THEMES} */ theme) => rgb
    && Object.entries(tokens(rgb, theme)).map(([name, parts]) => `${name}:rgb(${parts.join(" ")})`).join(";");
  sheet.replaceSync(rgb ? `:root{${rules("light")}}
    @media (prefers-color-scheme:dark){:root:not([data-theme="light"]){${rules("dark")}}}
    :root[data-theme="dark"]{${rules("dark")}}` : "");
  if (!document.adoptedStyleSheets.includes(sheet)) document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
}
