/** The sign-in view. */

import { useEffect, useState } from "preact/hooks";

import { ApiError, isAbort } from "../../players/api.js";
import { t } from "../i18n.js";
import { awayText, ended, login, offer } from "../session.js";
import { Choices } from "../shell.js";
import { keep } from "../../players/memory.js";
import { Button, Field, html, IconButton, LinkButton, Notice } from "../ui.js";

export default function Login() {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [coded, setCoded] = useState(false); // the password is right, and a code is needed
  const [shown, setShown] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const [wait, setWait] = useState(0); // seconds until the next try is allowed
  const { oidc = null, users = false } = offer.value ?? {};

  useEffect(() => {
    if (wait <= 0) return undefined;
    const timer = setTimeout(() => setWait(wait - 1), 1000);
    return () => clearTimeout(timer);
  }, [wait]);

  useEffect(() => { if (coded) document.getElementsByName("code")[0]?.focus(); }, [coded]);

  const enter = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (busy || wait > 0) return;
    if (!password) return setError(t("login.empty"));
    setBusy(true);
    setError("");
    try {
      await login(name.trim(), password, code.trim());
    } catch (problem) {
      if (isAbort(problem)) return;
      setBusy(false);
      if (!(problem instanceof ApiError)) throw problem;
      if (problem.field === "code" && !coded) return setCoded(true);
      if (problem.status === 429) setWait(problem.retryAfter ?? 60);
      else setError(problem.status === 401 ? t(problem.field === "code" ? "login.code.wrong" : "login.wrong") : problem.status === 0 ? awayText() : problem.message);
      document.getElementsByName(coded ? "code" : "password")[0]?.focus();
    }
  };
  return html`<div class="login">
    <main class="login-card card" id="main">
      <div class="login-brand"><img src="/console/players/icon.svg" alt="" width="40" height="40" /><h1>${t("login.title")}</h1></div>
      ${ended.value && html`<${Notice} kind="info" role="status">${t("login.ended")}<//>`}
      ${wait > 0 && html`<${Notice} kind="warn" role="alert">${t("login.limited", { n: wait })}<//>`}
      <form class="stack" onSubmit=${enter} novalidate>
        ${!users && html`<input type="text" name="username" autocomplete="username" value="admin" hidden />`}
        ${users && html`<${Field} label=${t("login.name")} name="username" value=${name} onInput=${setName} autocomplete="username"
          autocapitalize="none" spellcheck=${false} hint=${t("login.name.hint")} />`}
        <${Field} label=${t("login.password")} name="password" type=${shown ? "text" : "password"} value=${password} onInput=${setPassword}
          error=${coded ? "" : error}
          autocomplete="current-password" autocapitalize="none" spellcheck=${false} autofocus=${!users}
          hint=${users ? undefined : t("login.password.hint")}
          after=${html`<${IconButton} icon=${shown ? "eye-off" : "eye"} label=${shown ? t("login.hide") : t("login.show")}
            aria-pressed=${shown ? "true" : "false"} onClick=${() => setShown(!shown)} />`} />
        ${coded && html`<${Field} label=${t("login.code")} name="code" value=${code} onInput=${setCode} error=${error}
          autocomplete="one-time-code" autocapitalize="none" spellcheck=${false} hint=${t("login.code.hint")} />`}
        <${Button} kind="primary" type="submit" busy=${busy} disabled=${wait > 0}>${t("login.enter")}<//>
      </form>
      ${oidc && html`<div class="login-or"><span>${t("login.or")}</span></div>
        <${LinkButton} href="/oidc/start" icon="key"
          onClick=${() => keep("return", location.hash)}>${t("login.oidc", { name: oidc.name })}<//>`}
    </main>
    <footer class="login-foot"><${Choices} up /></footer>
  </div>`;
}
