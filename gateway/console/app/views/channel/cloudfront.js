/** Signed CloudFront addresses of a channel. Shown where the gateway has a key to sign with. */

import { useEffect, useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { Dialog } from "../../dialog.js";
import { moment } from "../../format.js";
import { hasWords, t } from "../../i18n.js";
import { usePoll } from "../../poll.js";
import { Button, CopyField, html, Notice, Select, Skeleton } from "../../ui.js";

/** @typedef {import("../../channel.js").Channel} Channel */
/** @typedef {{url: string, urls: Record<string, string>, cookies: Record<string, string>, expires: string}} Signed */

const HOURS = [1, 24, 168, 720];
const PAGE = "page";

/** @param {string} name @returns {string} */
const labelOf = (name) => name === PAGE ? t("play.watch") : hasWords(`play.${name}`) ? t(`play.${name}`) : name;

/** @param {{channel: Channel}} props */
export function SignedAddresses({ channel }) {
  const status = usePoll("/status", 60_000).value.data;
  const [open, setOpen] = useState(false);
  if (!(/** @type {{cloudfront?: boolean} | null} */ (status)?.cloudfront)) return null;
  return html`<p class="gap"><${Button} small icon="key" onClick=${() => setOpen(true)}>${t("cloudfront.open")}<//></p>
    ${open && html`<${SigningDialog} channel=${channel} onClose=${() => setOpen(false)} />`}`;
}

/** @param {{channel: Channel, onClose: () => void}} props */
function SigningDialog({ channel, onClose }) {
  const [hours, setHours] = useState(24);
  const [name, setName] = useState(PAGE);
  const [signed, setSigned] = useState(/** @type {Signed | null} */ (null));
  const [error, setError] = useState("");
  useEffect(() => {
    let outdated = false;
    setError("");
    const expires = Math.floor(Date.now() / 1000) + hours * 3600;
    api.post(`/videostream/${encodeURIComponent(channel.id)}/cloudfront`, { expires }).then(
      (/** @type {Signed} */ answer) => { if (!outdated) setSigned(answer); },
      (/** @type {Error} */ problem) => { if (!outdated) setError(problem.message); },
    );
    return () => { outdated = true; };
  }, [channel.id, hours]);
  const cookies = Object.entries(signed?.cookies ?? {}).map(([cookie, value]) => `${cookie}=${value}`).join("; ");
  const names = signed ? [PAGE, ...Object.keys(signed.urls).filter((other) => other !== PAGE)] : [];
  return html`<${Dialog} wide title=${t("cloudfront.open")} onClose=${onClose}
      footer=${html`<${Button} onClick=${onClose}>${t("close")}<//>`}>
    <div class="stack">
      <p class="hint">${t("cloudfront.text")}</p>
      <${Select} label=${t("cloudfront.valid")} value=${String(hours)}
        options=${HOURS.map((n) => ({ value: String(n), label: n < 24 ? t("cloudfront.hours", { n }) : t("cloudfront.days", { n: n / 24 }) }))}
        onChange=${(/** @type {string} */ value) => setHours(Number(value))} />
      ${error && html`<${Notice} kind="bad" role="alert">${error}<//>`}
      ${!signed && !error && html`<${Skeleton} lines=${3} />`}
      ${signed && !error && html`
        <${Select} label=${t("cloudfront.which")} value=${name} onChange=${setName}
          options=${names.map((value) => ({ value, label: labelOf(value) }))} />
        <${CopyField} label=${t("cloudfront.url")} value=${signed.urls[name] ?? signed.url}
          hint=${t("cloudfront.until", { time: moment(signed.expires) })} />
        <${CopyField} label=${t("cloudfront.cookies")} value=${cookies} hint=${t("cloudfront.cookies.hint")} />`}
    </div>
  <//>`;
}
