/** Sign-in through a provider (OpenID Connect): whether it is on, and what is missing for it. */

import { t } from "../../i18n.js";
import { usePoll } from "../../poll.js";
import { Card, CopyField, html, Notice } from "../../ui.js";

export function Provider() {
  /** @type {import("../../poll.js").PolledSignal<import("../system.js").Status>} */
  const polled = usePoll("/status", 60_000);
  const signIn = polled.value.data?.signIn;
  if (!signIn) return null;
  return html`<${Card} title=${t("provider.title")}><div class="stack">
    <p class="soft">${t(signIn.name === null ? "provider.text" : "provider.on", { name: signIn.name ?? "" })}</p>
    ${signIn.missing.length > 0 && html`<${Notice} kind="info" title=${t("provider.missing")}>
      <dl class="list">${signIn.missing.map((option) => html`<div key=${option}><dt><code>${option}</code></dt>
        <dd>${t(`provider.${option}`)}</dd></div>`)}</dl>
      <p>${t("provider.restart")}</p><//>`}
    <${CopyField} label=${t("provider.callback")} value=${`${location.origin}/oidc/callback`} hint=${t("provider.callback.hint")} />
  </div><//>`;
}
