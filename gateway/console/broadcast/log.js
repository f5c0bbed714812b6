/** One idea: the list of what happened, for whoever wants to know or has to tell somebody. */

import { html } from "./elements.js";
import { speaks } from "../players/language.js";

const MOST = 200;

/** @type {HTMLElement | null} */
let passing = null;

/**
 * @param {string} words
 * @param {boolean} [passes]  does the next one of this kind take its place, if nothing else happened in between?
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
