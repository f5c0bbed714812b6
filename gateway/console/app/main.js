/** Starts the console: loads texts and session, then shows the page. */

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

// After sign-in at the provider, the user returns to the view from before.
const where = recall("return");
if (where !== null) {
  keep("return", null);
  if (!location.hash) location.replace(where || "#");
}
// Without an answer the page is shown anyway; it reports this and tries again.
await Promise.all([wordsReady, refresh().catch(() => undefined)]);
render(html`<${App} />`, place);

// Choices from another browser apply here too, unless this browser has its own.
effect(() => {
  if (!user.value) return;
  loadProfile().then((stored) => {
    if (isTheme(stored["theme"]) && recall("theme") === null && theme.peek() !== stored["theme"]) setTheme(stored["theme"]);
    const words = stored["language"];
    if ((words === "en" || words === "zh") && recall("language") === null && language.peek() !== words) return setLanguage(words, false);
    return undefined;
  }).catch(() => undefined); // without the profile the browser's own settings are used
});
