/** The own account of a user with a password: a new password, and the second factor. */

import { useSignal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";

import { api, isAbort } from "../../players/api.js";
import { Dialog } from "../dialog.js";
import { t } from "../i18n.js";
import { refresh as renew, user } from "../session.js";
import { refresh, usePoll } from "../poll.js";
import { toast } from "../toast.js";
import { Badge, Button, Card, CopyField, Field, html, Notice, PageHead, Skeleton } from "../ui.js";
import { reason, Trouble } from "./parts/trouble.js";

export { default as words } from "../words/account.js";

const FACTOR = "/account/second-factor";
const RIGHT = 6; // digits of a code

export default function Account() {
  if (user.value?.kind !== "user") return html`<${PageHead} title=${t("account.title")} text=${t("account.none")} />`;
  return html`<${PageHead} title=${t("account.title")} text=${t("account.text", { name: user.value.name })} />
    <div class="columns"><${Password} /><${SecondFactor} /></div>`;
}

/**
 * Sends a form once at a time, and shows what the gateway refuses.
 * @param {() => Promise<void>} send
 * @returns {{busy: boolean, error: string, submit: (event?: Event) => Promise<void>}}
 */
function useForm(send) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const submit = async (/** @type {Event | undefined} */ event) => {
    event?.preventDefault();
    if (busy) return;
    setBusy(true);
    setError("");
    try {
      await send();
    } catch (problem) {
      if (!isAbort(problem)) setError(reason(problem));
    }
    setBusy(false);
  };
  return { busy, error, submit };
}

function Password() {
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const { busy, error, submit } = useForm(async () => {
    await api.put("/account/password", { old, new: fresh });
    await renew(); // the gateway has opened a new session for this browser
    setOld("");
    setFresh("");
    toast(t("account.changed"), "ok");
  });
  return html`<${Card} title=${t("account.password")}>
    <form class="stack" novalidate onSubmit=${submit}>
      <${Field} label=${t("account.old")} type="password" name="old" value=${old} onInput=${setOld} autocomplete="current-password" />
      <${Field} label=${t("account.new")} type="password" name="new" value=${fresh} onInput=${setFresh} autocomplete="new-password"
        error=${error} hint=${t("account.new.hint")} />
      <div class="row"><${Button} type="submit" kind="primary" busy=${busy} disabled=${!old || !fresh}>${t("account.change")}<//></div>
    </form>
  <//>`;
}

function SecondFactor() {
  const { data, error } = usePoll(FACTOR, 60_000).value;
  // Fixed when it opens: the recovery codes stay until the user closes them, also when the factor is known to be on.
  const [open, setOpen] = useState(/** @type {"add" | "remove" | null} */ (null));
  const close = () => { setOpen(null); refresh(FACTOR); };
  return html`<${Card} title=${t("factor.title")} actions=${data && html`<${Badge} kind=${data.on ? "ok" : "idle"}>
      ${t(data.on ? "factor.on" : "factor.off")}<//>`}>
    <${Trouble} error=${error} />
    ${!data ? !error && html`<${Skeleton} lines=${3} />` : html`<div class="stack">
      <p class="soft">${data.on ? t("factor.left", { n: data.recoveryCodes }) : t("factor.text")}</p>
      <div class="row"><${Button} kind=${data.on ? "plain" : "primary"} icon="shield" onClick=${() => setOpen(data.on ? "remove" : "add")}>
        ${t(data.on ? "factor.remove" : "factor.add")}<//></div>
    </div>`}
    ${open === "remove" && html`<${Remove} onClose=${close} />`}
    ${open === "add" && html`<${Add} onClose=${close} />`}
  <//>`;
}

/** @param {{onClose: () => void}} props */
function Remove({ onClose }) {
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const { busy, error, submit } = useForm(async () => {
    await api.post(`${FACTOR}/off`, { password, code });
    toast(t("factor.removed"), "ok");
    onClose();
  });
  return html`<${Dialog} title=${t("factor.remove")} onClose=${onClose} onSubmit=${submit} footer=${html`
      <${Button} onClick=${onClose}>${t("cancel")}<//><${Button} kind="primary" type="submit" busy=${busy}>${t("factor.remove")}<//>`}>
    <${Field} label=${t("account.old")} type="password" value=${password} onInput=${setPassword} autocomplete="current-password" />
    <${Field} label=${t("factor.code")} value=${code} onInput=${setCode} error=${error} hint=${t("factor.code.hint")}
      autocomplete="one-time-code" />
  <//>`;
}

/** In three steps: the password, the first code of the app, the recovery codes. @param {{onClose: () => void}} props */
function Add({ onClose }) {
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const made = useSignal(/** @type {{secret: string, uri: string} | null} */ (null));
  const codes = useSignal(/** @type {string[] | null} */ (null));
  const { busy, error, submit } = useForm(async () => {
    if (codes.value) onClose();
    else if (made.value) codes.value = (await api.put(FACTOR, { code: code.trim() })).recoveryCodes;
    else made.value = await api.post(FACTOR, { password });
  });
  const step = codes.value ? "done" : made.value ? "confirm" : "next";
  return html`<${Dialog} title=${t("factor.add")} onClose=${onClose} onSubmit=${submit} footer=${html`
      ${step !== "done" && html`<${Button} onClick=${onClose}>${t("cancel")}<//>`}
      <${Button} kind="primary" type="submit" busy=${busy} disabled=${step === "confirm" && code.trim().length < RIGHT}>${t(`factor.${step}`)}<//>`}>
    ${codes.value ? html`<${Notice} kind="warn">${t("factor.recovery")}<//>
        <${CopyField} label=${t("factor.codes")} value=${codes.value.join(" ")} />`
      : made.value ? html`<p>${t("factor.scan")}</p><${QrPicture} text=${made.value.uri} label=${t("factor.qr")} />
        <${CopyField} label=${t("factor.secret")} value=${made.value.secret} />
        <${Field} label=${t("factor.code")} value=${code} onInput=${setCode} error=${error} inputmode="numeric" autocomplete="one-time-code" />`
      : html`<${Field} label=${t("account.old")} type="password" value=${password} onInput=${setPassword} error=${error}
        autocomplete="current-password" />`}
  <//>`;
}

/** @param {{text: string, label: string}} props */
function QrPicture({ text, label }) {
  const [svg, setSvg] = useState("");
  useEffect(() => {
    const gone = new AbortController();
    api.post("/qr", { text }, { signal: gone.signal }).then((drawn) => setSvg(drawn.svg), () => undefined); // the secret can be typed
    return () => gone.abort();
  }, [text]);
  return svg && html`<span class="paper factor-qr"><img src=${`data:image/svg+xml,${encodeURIComponent(svg)}`} alt=${label} /></span>`;
}
