/** A form that sends one operation to this gateway, and shows the answer and the equal curl command. */

import { h } from "../players/dom.js";
import { t } from "./words.js";

/** @typedef {import("./spec.js").Operation} Operation */
/** @typedef {import("./spec.js").Spec} Spec */

/** The credentials: a token, else the console's session with its CSRF token.
 * @typedef {{token: string, csrf: string}} Asking */

const MOST_SHOWN = 200_000; // characters of an answer

/**
 * @param {Spec} spec
 * @param {Operation} operation
 * @param {Asking} asking
 */
export function trial(spec, operation, asking) {
  const { id, method, path, parameters, body } = operation;
  const inputs = parameters.map((p) => ({ p,
    input: h("input", { id: `${id}.${p.name}`, type: "text", required: p.required ?? false, autocomplete: "off", spellcheck: "false" }) }));
  const json = body?.["application/json"];
  const text = json ? h("textarea", { id: `${id}.body`, spellcheck: "false", rows: "8" }) : null;
  if (json && text) text.value = JSON.stringify(spec.example(json.schema), null, 2);
  const wrong = h("p", { class: "wrong", role: "alert" });
  const send = h("button", { type: "submit", class: method === "DELETE" ? "danger" : "" }, t("trial.send", { method }));
  const reply = h("div", { class: "reply", "aria-live": "polite" });
  const form = h("form", { class: "trial" }, h("h4", {}, t("trial.title")),
    ...inputs.map(({ p, input }) => h("div", { class: "row" }, h("label", { for: input.id }, p.name), input)),
    text && h("div", { class: "row" }, h("label", { for: text.id }, t("operation.body")), text), wrong, send, reply);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong.textContent = text ? fault(text.value) : "";
    if (wrong.textContent) return;
    let address = path;
    const query = new URLSearchParams();
    for (const { p, input } of inputs) {
      // The value of a path parameter may contain slashes.
      if (p.in === "path") address = address.replace(`{${p.name}}`, input.value.split("/").map(encodeURIComponent).join("/"));
      else if (input.value) query.set(p.name, input.value);
    }
    if (query.size) address += `?${query}`;
    send.disabled = true;
    try {
      reply.replaceChildren(...await ask(method, address, text?.value ?? null, asking));
    } catch {
      reply.replaceChildren(h("p", { class: "wrong" }, t("away"))); // a browser gives no other reason for a failed request
    }
    send.disabled = false;
  });
  return form;
}

/** @param {string} text @returns {string} the error; "" if it is JSON */
function fault(text) {
  try {
    JSON.parse(text);
    return "";
  } catch {
    return t("trial.json");
  }
}

/**
 * @param {string} method
 * @param {string} address
 * @param {string | null} body
 * @param {Asking} asking
 * @returns {Promise<Node[]>}
 */
async function ask(method, address, body, asking) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (body !== null) headers["Content-Type"] = "application/json";
  if (asking.token) headers["Authorization"] = `Bearer ${asking.token}`;
  else if (asking.csrf && method !== "GET") headers["X-CSRF-Token"] = asking.csrf;
  const began = performance.now();
  const reply = await fetch(address, { method, headers, body, cache: "no-store" });
  const blob = await reply.blob();
  const took = performance.now() - began;
  return [
    h("p", { class: "said" }, h("span", { class: "status", "data-class": String(reply.status)[0] ?? "" },
      `${reply.status} ${reply.statusText}`),
      ` ${Math.round(took)} ms · ${blob.size} B · ${reply.headers.get("Content-Type") ?? "–"}`),
    await shown(blob),
    h("p", { class: "said" }, t("trial.curl")),
    box(curl(method, address, body)),
  ];
}

/** @param {Blob} blob @returns {Promise<HTMLElement>} */
async function shown(blob) {
  if (/^image\//.test(blob.type)) {
    const picture = h("img", { src: URL.createObjectURL(blob), alt: t("trial.picture") });
    picture.addEventListener("load", () => URL.revokeObjectURL(picture.src), { once: true });
    return picture;
  }
  let text = await blob.text();
  if (/json/.test(blob.type)) {
    try {
      text = JSON.stringify(JSON.parse(text), null, 2);
    } catch { /* not JSON although declared so: shown unchanged */ }
  }
  return box(text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}\n…` : text);
}

/** @param {string} text */
function box(text) { return h("pre", { tabindex: "0" }, text); }

/**
 * Returns the curl command for a terminal, without the token.
 * @param {string} method
 * @param {string} address
 * @param {string | null} body
 */
function curl(method, address, body) {
  const quoted = (/** @type {string} */ word) => `'${word.replaceAll("'", "'\\''")}'`;
  const words = [`curl -X ${method} ${quoted(new URL(address, location.href).href)}`, '-H "Authorization: Bearer $TOKEN"'];
  if (body !== null) words.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(JSON.parse(body)))}`);
  return words.join(" \\\n  ");
}
