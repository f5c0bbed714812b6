/** One idea: the console begins: words, session, then the page. */

import { effect } from "@preact/signals";
import { render } from "preact";

import { html } from "./html.js";
import { language, setLanguage, wordsReady } from "./i18n.js";
import { loadProfile } from "./profile.js";
import { refresh, user } from "./session.js";
import { App } from "./shell.js";
import { keep, recall } from "../players/memory.js";
import { isTheme, setTheme, theme } from "./theme.js";

const place = document.getElementById("app");
if (place === null) throw new Error("the page has no #app");

// Whoever comes back from signing in elsewhere goes on where they were.
const where = recall("return");
if (where !== null) {
  keep("return", null);
  if (!location.hash) location.replace(where || "#");
}
// Without an answer the page is shown all the same: it says so, and asks again.
await Promise.all([wordsReady, refresh().catch(() => undefined)]);
render(html`<${App} />`, place);

// What was chosen elsewhere holds here too, unless this browser has a choice of its own.
effect(() => {
  if (!user.value) return;
  loadProfile().then((stored) => {
    if (isTheme(stored["theme"]) && recall("theme") === null && theme.peek() !== stored["theme"]) setTheme(stored["theme"]);
    const words = stored["language"];
    if ((words === "en" || words === "zh") && recall("language") === null && language.peek() !== words) return setLanguage(words, false);
    return undefined;
  }).catch(() => undefined); // a profile is a comfort: without it the browser's own settings hold
});
