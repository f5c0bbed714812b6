/** The list of events, for the user or for support. */

import { html } from "./elements.js";
import { speaks } from "../players/language.js";

const MOST = 200;

/** @type {HTMLElement | null} */
let passing = null;

/**
 * @param {string} words
 * @param {boolean} [passes]  whether the next event of this kind replaces it, if there is no other event between them
 */
export function note(words, passes = false) {
  const list = html("log");
  html("log-empty").hidden = true;
  const time = document.createElement("time");
  const now = new Date();
  time.dateTime = now.toISOString();
  time.textContent = now.toLocaleTimeString(speaks(), { hour12: false });
  const line = document.createElement("li");
  line.append(time, " ", words);
  if (passes && passing !== null && passing === list.lastElementChild) {
    passing.replaceChildren(time, " ", words);
    return;
  }
  passing = passes ? line : null;
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  list.append(line);
  while (list.children.length > MOST) list.firstElementChild?.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}
