/** The playback addresses of the broadcast, to copy or open. */

import { button, element, html, input } from "./elements.js";
import { speak } from "../players/language.js";
import { t } from "./words.js";

/** @typedef {import("./target.js").Target} Target */

// Each output's player page, the most widely supported first.
const PAGES = /** @type {const} */ ([["hls", "index.html"], ["cmaf", "hls.html"], ["flv", "flv.html"], ["dash", "dash.html"], ["whep", "whep.html"]]);

/** @type {{url: string, output: typeof PAGES[number][0]}[]} */
let pages = [];
/** @type {Target | null} */
let target = null;

/** @param {Target | null} to */
export function showWatch(to) {
  target = to;
  pages = PAGES.flatMap(([output, page]) => {
    const url = to?.media[output];
    return url && URL.canParse(url) ? [{ url: new URL(page + new URL(url).search, url).href, output }] : [];
  });
  say();
}

/** Connects the copy button; called once. */
export function setUpWatch() {
  const copy = button("watch-copy");
  copy.addEventListener("click", async () => {
    const link = input("watch");
    try {
      await navigator.clipboard.writeText(link.value);
    } catch {
      link.select(); // the clipboard is not allowed here; the user can copy the selected text
      return;
    }
    copy.textContent = t("do.copied");
    setTimeout(() => { copy.textContent = t("do.copy"); }, 1500);
  });
  speak(say);
}

function say() {
  html("watch-card").hidden = target === null;
  const [first] = pages;
  input("watch").value = first?.url ?? "";
  html("watch-hint").textContent = first ? t("watch.hint") : t("watch.none");
  html("pages").replaceChildren(...pages.flatMap(({ url, output }, i) => {
    const link = document.createElement("a");
    link.href = url;
    link.target = "_blank";
    link.rel = "noopener";
    link.textContent = t(`watch.${output}`);
    return i ? [" · ", link] : [link];
  }));
  const qr = element("qr", HTMLImageElement);
  const source = target?.ours && first ? `/videostream/${target.id}/qr?url=page` : "";
  qr.hidden = !source;
  qr.alt = t("watch.qr");
  if (source && qr.getAttribute("src") !== source) qr.src = source;
}
