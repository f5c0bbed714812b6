/** The form for a new channel. */

import { useState } from "preact/hooks";

import { ApiError, isAbort } from "../../players/api.js";
import { fromLocal, NEVER, slugOf, zoneName } from "../channel.js";
import { Dialog } from "../dialog.js";
import { t } from "../i18n.js";
import { toast } from "../toast.js";
import { Button, Field, html, Switch } from "../ui.js";
import { ExpiryField, inAYear } from "./expiry.js";

/** @typedef {import("../channel.js").Channel} Channel */

/**
 * @param {{onClose: () => void, onMade: (channel: Channel) => void, create: (body: Record<string, unknown>) => Promise<Channel>}} props
 */
export function NewChannel({ onClose, onMade, create }) {
  const [name, setName] = useState("");
  const [until, setUntil] = useState(inAYear);
  const [description, setDescription] = useState("");
  const [slug, setSlug] = useState("");
  const [on, setOn] = useState({ isFlv: true, isHls: true, isCMAF: true, isPublic: false });
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState(/** @type {Record<string, string>} */ ({}));

  const make = async () => {
    if (busy) return;
    const outdate = until === NEVER ? NEVER : fromLocal(until);
    /** @type {Record<string, string>} */
    const missing = {};
    if (!name.trim()) missing["videoname"] = t("new.name.missing");
    if (!outdate) missing["outdate"] = t("new.expiry.missing");
    if (slug && slug.length < 2) missing["slug"] = t("new.slug.short");
    setWrong(missing);
    if (Object.keys(missing).length) return;
    setBusy(true);
    try {
      const made = await create({ videoname: name.trim(), description: description.trim(), outdate, ...(slug && { slug }), ...on });
      toast(t("new.done", { name: name.trim() }), "ok");
      onMade(made);
    } catch (error) {
      setBusy(false);
      if (isAbort(error)) return;
      if (!(error instanceof ApiError)) throw error;
      setWrong({ [error.field ?? "form"]: error.message });
    }
  };
  const proposed = slugOf(name.trim()).replace(/^-+|-+$/g, "");
  const known = ["videoname", "outdate", "description", "slug"];
  const other = Object.entries(wrong).find(([field]) => !known.includes(field));
  const flag = (/** @type {"isFlv" | "isHls" | "isCMAF"} */ field, /** @type {string} */ output) =>
    html`<${Switch} label=${t(`output.${output}`)} hint=${t(`output.${output}.hint`)} checked=${on[field]}
    onChange=${(/** @type {boolean} */ value) => setOn({ ...on, [field]: value })} />`;
  return html`<${Dialog} title=${t("new.title")} onClose=${onClose} onSubmit=${make} footer=${html`
      <${Button} onClick=${onClose}>${t("cancel")}<//><${Button} kind="primary" type="submit" busy=${busy}>${t("new.create")}<//>`}>
    <${Field} label=${t("channel.name")} name="videoname" value=${name} onInput=${setName} required maxlength=${256}
      error=${wrong["videoname"]} autofocus autocomplete="off" />
    <${ExpiryField} label=${t("channel.expiry")} value=${until} onInput=${setUntil} error=${wrong["outdate"]}
      hint=${t("new.expiry.hint", { zone: zoneName() })} />
    <${Field} label=${t("channel.description")} name="description" value=${description} onInput=${setDescription} rows=${2}
      maxlength=${4096} error=${wrong["description"]} />
    <${Field} label=${t("new.slug")} name="slug" value=${slug} onInput=${(/** @type {string} */ to) => setSlug(slugOf(to))}
      after=${slug === "" && proposed.length > 1 && html`<${Button} kind="quiet" small onClick=${() => setSlug(proposed)}>
        ${t("new.slug.take")}<//>`}
      hint=${t("new.slug.hint", { name: slug || proposed || "stage" })} maxlength=${64} error=${wrong["slug"]} autocomplete="off"
      autocapitalize="none" spellcheck=${false} />
    <${Switch} label=${t("face.public")} hint=${t("face.public.hint")} checked=${on.isPublic}
      onChange=${(/** @type {boolean} */ isPublic) => setOn({ ...on, isPublic })} />
    <fieldset class="group"><legend>${t("new.outputs")}</legend>
      ${flag("isFlv", "flv")}${flag("isHls", "hls")}${flag("isCMAF", "cmaf")}
    </fieldset>
    ${other && html`<p class="error" role="alert">${other[0] === "form" ? other[1] : `${other[0]}: ${other[1]}`}</p>`}
  <//>`;
}
