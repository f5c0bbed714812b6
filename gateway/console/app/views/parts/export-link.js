/** A link that downloads a time range of a channel. */

import { useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { html, LinkButton } from "../../ui.js";
import { attempt } from "./trouble.js";

/**
 * Without media in this time the answer is an error, which a browser would save as a file. So it is asked first, and told.
 * @param {{href: string, kind?: import("../../kit/button.js").ButtonKind, children?: any}} props
 */
export function ExportLink({ href, kind = "plain", children }) {
  const [busy, setBusy] = useState(false);
  const start = async (/** @type {MouseEvent} */ event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    await attempt(async () => {
      await api.head(href).catch(() => api.get(href)); // the answer to HEAD has no words
      const link = document.createElement("a");
      link.href = href;
      link.download = ""; // the answer has the name
      link.click();
    });
    setBusy(false);
  };
  return html`<${LinkButton} kind=${kind} icon="download" href=${href} onClick=${start}
    aria-busy=${busy ? "true" : undefined}>${children}<//>`;
}
