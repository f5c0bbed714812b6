/** The frame around every view: navigation, signed-in user, language and colours. */

import { useEffect, useErrorBoundary, useLayoutEffect, useRef, useState } from "preact/hooks";

import { isAbort } from "../players/api.js";
import { Questions } from "./dialog.js";
import { html } from "./html.js";
import { addTables, addWords, language, LANGUAGES, setLanguage, t } from "./i18n.js";
import { Button, IconButton } from "./kit/button.js";
import { Icon } from "./kit/icon.js";
import { Menu } from "./kit/menu.js";
import { Empty, Notice, Skeleton } from "./kit/status.js";
import { usePoll } from "./poll.js";
import { saveProfile } from "./profile.js";
import { route } from "./router.js";
import { administers, awayText, awayWords, logout, observes, offer, offline, readsAll, refresh, unreachable, user } from "./session.js";
import { setTheme, theme, THEMES } from "./theme.js";
import { toast, Toasts } from "./toast.js";

/** @typedef {import("./kit/icon.js").IconName} IconName */
/** @typedef {{default: import("preact").ComponentType<{parts: string[]}>, words?: import("./i18n.js").Tables}} View */
/**
 * label: in the navigation, by language.
 * @typedef {{icon: IconName, label: Record<string, string>, load: (parts: string[]) => Promise<View>}} Place
 */

/** The views, in the order of the navigation. @type {Record<string, Place>} */
const VIEWS = {
  channels: {
    icon: "channels", label: { en: "Channels", zh: "频道" },
    load: ([id, page]) =>
      id === undefined ? import("./views/channels.js") : page === "edit" ? import("./views/edit.js")
        : page === "shows" ? import("./views/show.js") : import("./views/channel.js"),
  },
  live: { icon: "live", label: { en: "Live", zh: "直播" }, load: () => import("./views/live.js") },
  recordings: { icon: "recordings", label: { en: "Recordings", zh: "录制" }, load: () => import("./views/recordings.js") },
  films: { icon: "films", label: { en: "Videos", zh: "视频" }, load: () => import("./views/films.js") },
  events: { icon: "events", label: { en: "Events", zh: "事件" }, load: () => import("./views/events.js") },
  alarms: { icon: "bell", label: { en: "Alarms", zh: "告警" }, load: () => import("./views/alarms.js") },
  site: { icon: "image", label: { en: "Appearance", zh: "外观" }, load: () => import("./views/site.js") },
  domains: { icon: "domains", label: { en: "Domains", zh: "域名" }, load: () => import("./views/domains.js") },
  ivs: { icon: "ivs", label: { en: "Amazon IVS", zh: "Amazon IVS" }, load: () => import("./views/ivs.js") },
  account: { icon: "user", label: { en: "Your account", zh: "您的账号" }, load: () => import("./views/account.js") },
  users: { icon: "users", label: { en: "Users", zh: "用户" }, load: () => import("./views/users.js") },
  system: { icon: "system", label: { en: "System", zh: "系统" }, load: () => import("./views/system.js") },
};

/** The views of a broadcaster, by the beginnings of their addresses. */
const OWN = ["channels", "recordings", "account"];
/** Forms, whose controls are disabled for an observer. */
const FORMS = ["alarms", "site", "users"];
/** The further views of an observer of all channels. */
const READ = ["live", "films", "events", "system", ...FORMS];

/** Whether the user may open a view. @param {string} name @param {string} [page]  of a channel */
const allowed = (name, page) => (name !== "account" || user.value?.kind === "user")
  && (administers.value || ((OWN.includes(name) || (readsAll.value && READ.includes(name))) && page !== "edit"));

/** Fills the page, without the navigation. Every user may open it. */
const wall = () => import("./views/live/wall.js");

for (const [name, { label }] of Object.entries(VIEWS)) addWords(`nav.${name}`, label);

export function App() {
  // If the gateway did not answer the first request, the request is repeated until it does.
  useEffect(() => {
    if (offer.value) return undefined;
    const timer = setInterval(() => { if (offer.peek()) clearInterval(timer); else void refresh().catch(() => undefined); }, 2000);
    return () => clearInterval(timer);
  }, []);
  return html`${!offer.value ? html`<${Away} />` : user.value ? route.value.name === "wall"
    ? html`<${Viewed} load=${wall} name="wall" parts=${[]} />` : html`<${Frame} />`
    : html`<${Viewed} load=${() => import("./views/login.js")} name="login" parts=${[]} />`}
    <${Questions} /><${Toasts} />`;
}

function Away() {
  return html`<main>${unreachable.value
    ? html`<${Empty} icon="warning" title=${t(offline.value ? "away.offline.title" : "away.title")} text=${t(offline.value ? "away.offline.text" : awayWords("away.text"))} />`
    : html`<${Skeleton} lines=${8} />`}</main>`;
}

function Frame() {
  const [drawer, setDrawer] = useState(false);
  const at = route.value;
  useEffect(() => setDrawer(false), [at.path]);
  return html`<a class="skip" href="#main"
    onClick=${(/** @type {Event} */ event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>${t("skip")}</a>
    <div class="app">
      <div class="side"><${Nav} /></div>
      <header class="top">
        <${IconButton} icon="menu" label=${t("nav.open")} onClick=${() => setDrawer(true)} aria-expanded=${drawer ? "true" : "false"} />
        <${Brand} />
      </header>
      ${drawer && html`<${Drawer} onClose=${() => setDrawer(false)} />`}
      <div>
        ${unreachable.value && html`<p class="away" role="alert">${awayText()}</p>`}
        <main id="main" tabindex="-1" class=${unreachable.value ? "is-stale" : ""}>
          <${Viewed} load=${allowed(at.name, at.parts[1]) ? VIEWS[at.name]?.load : undefined} name=${at.name} parts=${at.parts} />
        </main>
      </div>
    </div>`;
}

const Brand = () => html`<a class="brand" href="#/channels">
  <img src="/console/players/icon.svg" alt="" width="26" height="26" />Millrace</a>`;

/** @param {{onClose: () => void}} props */
function Drawer({ onClose }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return html`<dialog class="drawer" ref=${element} aria-label=${t("nav")}
    onCancel=${(/** @type {Event} */ event) => { event.preventDefault(); onClose(); }}
    onPointerDown=${(/** @type {Event} */ event) => { if (event.target === element.current) onClose(); }}><${Nav} /></dialog>`;
}

function Nav() {
  const at = route.value.name;
  /** @type {{ivs?: boolean} | null} */
  const status = usePoll(administers.value ? "/status" : null, 60_000).value.data;
  // Amazon IVS needs AWS; without it, only an address leads there.
  const isOffered = (/** @type {string} */ name) => allowed(name) && (name !== "ivs" || at === "ivs" || status?.ivs === true);
  return html`<nav class="nav" aria-label=${t("nav")}>
    <${Brand} />
    <ul>${Object.entries(VIEWS).filter(([name]) => isOffered(name)).map(([name, { icon }]) => html`<li key=${name}>
      <a href=${`#/${name}`} aria-current=${at === name ? "page" : undefined}><${Icon} name=${icon} />${t(`nav.${name}`)}</a></li>`)}
      ${readsAll.value && html`<li><a href="/docs" target="_blank"
        rel="noopener"><${Icon} name="docs" />${t("nav.docs")}</a></li>`}
    </ul>
    <div class="end">
      <${Choices} up />
      <${Menu} label=${t("account")} icon="user" up start
        items=${[{ label: t("logout"), icon: "logout", onSelect: leave }]}>${user.value?.kind === "token" ? t("account.token")
          : user.value?.name}<//>
    </div>
  </nav>`;
}

/** Language and colours. @param {{up?: boolean}} props */
export function Choices({ up = false }) {
  const keep = (/** @type {Record<string, string>} */ choice) => {
    if (user.peek()) saveProfile(choice).catch((error) => { if (!isAbort(error)) toast(t("profile.failed"), "warn"); });
  };
  return html`
    <${Menu} label=${t("language")} icon="language" up=${up} start items=${Object.entries(LANGUAGES).map(([code, label]) => ({
      label, checked: language.value === code,
      onSelect: () => { void setLanguage(/** @type {import("./i18n.js").Language} */ (code)); keep({ language: code }); },
    }))}>${LANGUAGES[language.value]}<//>
    <${Menu} label=${t("theme")} icon=${theme.value === "auto" ? "auto" : theme.value === "dark" ? "moon" : "sun"} up=${up} start
      items=${THEMES.map((one) => ({
      label: t(`theme.${one}`), checked: theme.value === one, onSelect: () => { setTheme(one); keep({ theme: one }); },
    }))}>${t(`theme.${theme.value}`)}<//>`;
}

async function leave() {
  try {
    await logout();
  } catch (error) {
    if (!isAbort(error)) toast(t("logout.failed"), "bad");
  }
}

/**
 * A view, loaded when it is first shown; the view before stays until then. It gets the address that it was loaded for,
 * because the address bar may have changed meanwhile.
 * @param {{load: ((parts: string[]) => Promise<View>) | undefined, name: string, parts: string[]}} props
 */
function Viewed({ load, name, parts }) {
  const [shown, setShown] = useState(/** @type {{key: string, parts: string[], view: View["default"]} | null} */ (null));
  const [failed, setFailed] = useState(false);
  const [again, setAgain] = useState(0);
  const key = [name, ...parts].join("/");
  useEffect(() => {
    let gone = false;
    setFailed(false);
    load?.(parts).then(({ default: view, words }) => {
      if (gone) return;
      if (words) addTables(words);
      setShown({ key, parts, view });
      scrollTo(0, 0);
    }, () => { if (!gone) setFailed(true); });
    return () => { gone = true; };
  }, [key, again]);
  // Loaded again when the gateway answers again.
  useEffect(() => {
    let away = false;
    return failed ? unreachable.subscribe((is) => { if (!is && away) setAgain((n) => n + 1); away = is; }) : undefined;
  }, [failed]);
  if (!load) return html`<${Empty} icon="search" title=${t("lost.title")} text=${t("lost.text")}>
    <a href="#/channels">${t("nav.channels")}</a><//>`;
  if (failed) return html`<${Empty} icon="warning" title=${t("view.failed")} text=${t("view.failed.text")}>
    <${Button} icon="refresh" onClick=${() => setAgain((n) => n + 1)}>${t("retry")}<//><//>`;
  if (!shown) return html`<${Skeleton} lines=${8} />`;
  const view = html`<${Guarded} key=${shown.key} view=${shown.view} parts=${shown.parts} />`;
  if (!observes.value || !FORMS.includes(shown.key.split("/", 1)[0] ?? "")) return view; // the view before, until this one is there
  return html`<div class="bar"><${Notice} kind="info">${t("observer.only")}<//></div><fieldset class="observed" disabled>${view}</fieldset>`;
}

/** Shows a view, or after an exception in it that the page has a fault. @param {{view: View["default"], parts: string[]}} props */
function Guarded({ view, parts }) {
  // The state of the boundary itself causes no rendering together with signals.
  const [error, setError] = useState(/** @type {unknown} */ (null));
  useErrorBoundary((problem) => { reportError(problem); setError(problem); });
  return error ? html`<${Empty} icon="warning" title=${t("view.fault")} text=${t("view.fault.text", { error: String(error) })}>
    <${Button} icon="refresh" onClick=${() => location.reload()}>${t("preview.reload.do")}<//><//>` : html`<${view} parts=${parts} />`;
}
