/** HTML as tagged templates, without a build step. Text in `${…}` is always text, never markup. */

import htm from "htm";
import { h } from "preact";

export const html = htm.bind(h);

/** Joins class names and leaves out missing ones. @param {...(string | false | null | undefined)} names @returns {string} */
export const classes = (...names) => names.filter(Boolean).join(" ");

let made = 0;

/** Returns an id that is unique on the page. @param {string} prefix @returns {string} */
export const uniqueId = (prefix) => `${prefix}-${++made}`;
