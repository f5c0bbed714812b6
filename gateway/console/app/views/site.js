/** The look of the pages for viewers: title, logo, colour and a text of the operator. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { api, ApiError, isAbort } from "../../players/api.js";
import { t } from "../i18n.js";
import { PictureField } from "../kit/picture.js";
import { toast } from "../toast.js";
import { Button, Card, Field, html, PageHead, Skeleton } from "../ui.js";
import { reason, Trouble } from "./parts/trouble.js";

export { default as words } from "../words/site.js";

/** @typedef {{title: string, color: string, text: string, logo: string | null}} Site */

export default function SiteView() {
  const stored = useSignal(/** @type {Site | null} */ (null));
  const typed = useSignal({ title: "", color: "", text: "" });
  const wrong = useSignal(/** @type {Record<string, string>} */ ({}));
  const failure = useSignal(/** @type {unknown} */ (null));
  const busy = useSignal(false);
  useEffect(() => {
    const gone = new AbortController();
    api.get("/site", { signal: gone.signal }).then((found) => { stored.value = found; typed.value = found; },
      (error) => { if (!isAbort(error)) failure.value = error; });
    return () => gone.abort();
  }, []);
  const save = async () => {
    const sent = typed.value;
    const { title, color, text } = sent;
    busy.value = true;
    try {
      /** @type {Site} */
      const now = await api.put("/site", { title: title.trim(), color: color.trim(), text });
      stored.value = now;
      if (typed.value === sent) typed.value = now; // else the user has typed since
      toast(t("site.saved"), "ok");
    } catch (error) {
      if (error instanceof ApiError && error.field) wrong.value = { [error.field]: error.message };
      else toast(reason(error), "bad");
    } finally {
      busy.value = false;
    }
  };
  const set = (/** @type {string} */ name) => (/** @type {string} */ value) => {
    typed.value = { ...typed.value, [name]: value };
    wrong.value = {};
  };
  const { title, color, text } = typed.value;
  return html`<${PageHead} title=${t("site.title")} text=${t("site.about")} />
    <${Trouble} error=${failure.value} />
    ${stored.value === null ? !failure.value && html`<${Skeleton} lines=${6} />` : html`<div class="columns">
      <${Card} title=${t("site.texts")}>
        <form class="stack" novalidate onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); void save(); }}>
          <${Field} label=${t("site.name")} name="title" value=${title} maxlength="100" onInput=${set("title")} error=${wrong.value["title"]}
            hint=${t("site.name.hint")} />
          <${ColorField} label=${t("site.color")} value=${color} onInput=${set("color")} error=${wrong.value["color"]}
            hint=${t("site.color.hint")} />
          <${Field} label=${t("site.text")} name="text" rows=${6} value=${text} maxlength="4000" onInput=${set("text")}
            error=${wrong.value["text"]} hint=${t("site.text.hint")} />
          <div class="row"><${Button} type="submit" kind="primary" busy=${busy.value}>${t("site.save")}<//></div>
        </form>
      <//>
      <${Card} title=${t("site.logo")}>
        <${PictureField} label=${t("site.logo")} hint=${t("site.logo.hint")} source=${stored.value.logo} path="/site/logo"
          onChanged=${(/** @type {Site} */ now) => { stored.value = now; }} />
      <//>
    </div>`}`;
}

/** @param {{label: string, value: string, onInput: (value: string) => void, error?: string | undefined, hint?: string}} props */
export function ColorField({ label, value, onInput, error, hint }) {
  const swatch = html`<input type="color" class="swatch" aria-label=${t("watermark.pick")}
    value=${/^#[0-9a-f]{6}$/i.test(value) ? value.toLowerCase() : "#0b6f6a"}
    onInput=${(/** @type {Event} */ event) => onInput(/** @type {HTMLInputElement} */ (event.target).value)} />`;
  return html`<${Field} label=${label} name="color" value=${value} onInput=${onInput} error=${error} hint=${hint} after=${swatch}
    placeholder="#0b6f6a" maxlength="7" spellcheck=${false} autocomplete="off" />`;
}
