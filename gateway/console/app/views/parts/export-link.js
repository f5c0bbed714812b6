/** A link that downloads a time range of a channel. */

import { useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { html, LinkButton } from "../../ui.js";
import { attempt } from "./trouble.js";

/**
 * Without media in this time the answer is an error, which a browser would save as a file: it is shown instead.
 * @param {{href: string, [rest: string]: any}} props
 */
export function ExportLink({ href, ...rest }) {
  const [busy, setBusy] = useState(false);
  const start = async (/** @type {MouseEvent} */ event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    await attempt(async () => {
      await api.head(href).catch(() => api.get(href)); // the answer to HEAD has no words
      Object.assign(document.createElement("a"), { href, download: "" }).click();
    });
    setBusy(false);
  };
  return html`<${LinkButton} icon="download" href=${href} onClick=${start} ...${rest} />`;
}
