/** One idea: markup as tagged templates, without a build step. Text in `${…}` is always text, never markup. */

import htm from "htm";
import { h } from "preact";

export const html = htm.bind(h);

/** Class names of which some may be missing. @param {...(string | false | null | undefined)} names @returns {string} */
export const classes = (...names) => names.filter(Boolean).join(" ");

let made = 0;

/** An id that no other element of the page has. @param {string} prefix @returns {string} */
export const uniqueId = (prefix) => `${prefix}-${++made}`;
