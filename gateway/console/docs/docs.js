/** Shows the API's description with forms to try it, with a session or a token. */

import { h } from "../players/dom.js";
import { changeLanguage, languageTag, speak } from "../players/language.js";
import { themeButton } from "../players/theme-button.js";
import { badge, operationPart } from "./operation.js";
import { Spec } from "./spec.js";
import { t } from "./words.js";

/** @type {import("./trial.js").Asking} */
const asking = { token: "", csrf: "" };

const place = h("main", { id: "place" });

/** The gateway answered, but not with what was asked for. */
class Refusal extends Error {
  /** @param {number} status */
  constructor(status) {
    super(String(status));
    this.status = status;
  }
}

build();
addEventListener("hashchange", open);
await begin();

/** Shows the description if there is a session, else asks for a token. */
async function begin() {
  place.replaceChildren(note("loading"));
  try {
    const reply = await fetch("/login", { cache: "no-store" });
    if (!reply.ok) throw new Refusal(reply.status);
    const { user, csrf } = await reply.json();
    asking.csrf = csrf ?? "";
    if (user) await describe();
    else askForToken();
  } catch (error) {
    away(error);
  }
}

/**
 * Fetches the description and shows it.
 * @returns {Promise<string>}  the error; "" on success
 */
async function describe() {
  /** @type {Record<string, string>} */
  const headers = asking.token ? { Authorization: `Bearer ${asking.token}` } : {};
  const reply = await fetch("/openapi.json", { headers, cache: "no-store" });
  if (reply.status === 401) return t("ask.wrong");
  if (reply.status === 429) return t("ask.often", { seconds: reply.headers.get("Retry-After") ?? "60" });
  if (!reply.ok) throw new Refusal(reply.status);
  const spec = new Spec(await reply.json());
  speak(() => show(spec));
  return "";
}

/** @param {Spec} spec */
function show(spec) {
  const { title, version, description = "" } = spec.info;
  const filter = h("input", { type: "search", id: "filter", placeholder: t("filter"), "aria-label": t("filter") });
  const links = h("nav", { class: "side", "aria-label": t("side") });
  const list = h("div", { class: "list" });
  const none = h("p", { class: "note", hidden: true }, t("none"));
  for (const [tag, operations] of spec.byTag) {
    list.append(h("section", {}, h("h3", {}, tag), ...operations.map((one) => operationPart(spec, one, asking))));
    links.append(h("section", {}, h("h2", {}, tag), h("ul", {}, ...operations.map((one) =>
      h("li", {}, h("a", { href: `#${one.id}`, title: `${one.method} ${one.path}` }, badge(one.method), h("span", {}, one.summary)))))));
  }
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    const fits = new Set(spec.operations.filter((o) =>
      `${o.method} ${o.path} ${o.summary} ${o.tag}`.toLowerCase().includes(wanted)).map((o) => o.id));
    for (const part of list.querySelectorAll("details.operation")) part.toggleAttribute("hidden", !fits.has(part.id));
    for (const link of links.querySelectorAll("a")) link.parentElement?.toggleAttribute("hidden", !fits.has(link.hash.slice(1)));
    for (const section of [...list.children, ...links.children]) section.toggleAttribute("hidden",
      !section.querySelector("details.operation:not([hidden]), li:not([hidden])"));
    none.hidden = fits.size > 0;
  });
  place.replaceChildren(links, h("div", { class: "middle" },
    h("h2", { class: "title" }, title, " ", h("span", { class: "version" }, version)), h("p", { class: "intro" }, description),
    h("p", { class: "intro" }, t(asking.token ? "who.token" : "who.session")), filter, none, list));
  open();
}

/** Opens the operation in the page's address. */
function open() {
  const part = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!(part instanceof HTMLDetailsElement)) return;
  part.open = true;
  part.scrollIntoView();
  part.querySelector("summary")?.focus({ preventScroll: true });
}

function askForToken() {
  const title = h("h2");
  const words = h("p");
  const label = h("label", { for: "token" });
  const input = h("input", { id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false",
    "aria-describedby": "wrong" });
  const button = h("button", { type: "submit" });
  const link = h("a", { href: "/" });
  const wrong = h("p", { id: "wrong", class: "wrong", role: "alert" });
  const form = h("form", { class: "ask" }, title, words, label, h("div", { class: "line" }, input, button), wrong, h("p", {}, link));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    asking.token = input.value.trim();
    button.disabled = true;
    wrong.textContent = "";
    try {
      wrong.textContent = await describe();
    } catch (error) {
      wrong.textContent = whyNot(error);
    }
    button.disabled = false;
    if (wrong.textContent) {
      asking.token = "";
      input.select();
    }
  });
  place.replaceChildren(form);
  speak(() => {
    title.textContent = t("ask.title");
    words.textContent = t("ask.words");
    label.textContent = t("ask.token");
    button.textContent = t("ask.show");
    link.textContent = t("ask.console");
  });
  input.focus();
}

/** @param {unknown} error @returns {string} why there is no description, in the language of the page */
function whyNot(error) {
  if (!(error instanceof Refusal)) return t("away");
  return error.status === 403 ? t("refused.role") : t("refused", { status: error.status });
}

/** @param {unknown} error */
function away(error) {
  const words = h("p");
  const button = h("button", { type: "button", onclick: () => void begin() });
  place.replaceChildren(h("div", { class: "ask", role: "alert" }, words, button));
  speak(() => {
    words.textContent = whyNot(error);
    button.textContent = t("retry");
  });
}

/** @param {"loading"} word */
function note(word) {
  const words = h("p", { class: "note", role: "status" });
  speak(() => { words.textContent = t(word); });
  return words;
}

function build() {
  const title = h("h1");
  const home = h("a", { href: "/" });
  const file = h("a", { href: "/openapi.json" });
  const other = h("button", { class: "plain", type: "button", onclick: changeLanguage });
  const mark = h("img", { src: "/console/players/icon.svg", alt: "", width: "28", height: "28" });
  document.body.append(h("header", { class: "top" }, mark, title, h("nav", {}, home, file), other, themeButton()), place);
  file.addEventListener("click", (event) => {
    if (!asking.token) return; // the browser sends the session's cookie
    event.preventDefault();
    void save();
  });
  speak(() => {
    document.documentElement.lang = languageTag();
    title.textContent = t("title");
    home.textContent = t("console");
    file.textContent = t("file");
    file.title = t("file.why");
    other.textContent = t("language.other");
    other.lang = languageTag() === "en" ? "zh-CN" : "en";
  });
}

/** Downloads the description as a file, with the token. */
async function save() {
  const reply = await fetch("/openapi.json", { headers: { Authorization: `Bearer ${asking.token}` }, cache: "no-store" });
  if (!reply.ok) return away(new Error(`${reply.status}`));
  const address = URL.createObjectURL(await reply.blob());
  h("a", { href: address, download: "openapi.json" }).click();
  URL.revokeObjectURL(address);
}
