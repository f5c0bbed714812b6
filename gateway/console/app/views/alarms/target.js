/** The forms of the targets of alarms, and the addresses that they become. */

import { t } from "../../i18n.js";
import { Field, html, Select } from "../../ui.js";

/** @typedef {Record<string, string>} Values  what the user typed, by field */
/**
 * wrong: the fields that are missing; else the address.
 * @typedef {{address: string, wrong: string[]}} Built
 */
/**
 * fields: of the form, in order; those with "?" may be empty. address: gets the values, trimmed.
 * @typedef {{fields: readonly string[], address: (values: Values) => string}} Service
 */

const e = encodeURIComponent;
const host = (/** @type {string} */ text) => text.replace(/^[a-z]+:\/\//i, "").replace(/\/+$/, "");

/** @param {Values} v @returns {string} user and password of an address */
const login = ({ user = "", password = "" }) => (user ? `${e(user)}${password ? `:${e(password)}` : ""}@` : "");

/** @type {Record<string, Service>} */
export const SERVICES = {
  mail: {
    fields: ["to", "from", "server", "tls", "user?", "password?"],
    address: (v) => `smtp://${login(v)}${host(v["server"] ?? "")}?from=${e(v["from"] ?? "")}&to=${e(v["to"] ?? "")}${
      v["tls"] ? `&tls=${v["tls"]}` : ""}`,
  },
  slack: { fields: ["hook"], address: (v) => v["hook"] ?? "" },
  discord: { fields: ["hook"], address: (v) => v["hook"] ?? "" },
  telegram: { fields: ["bot", "chat"], address: (v) => `telegram://${v["bot"]}/${e(v["chat"] ?? "")}` },
  ntfy: {
    fields: ["topic", "ntfyServer?", "user?", "password?"],
    address: (v) => (v["ntfyServer"] || v["user"] ? `ntfy://${login(v)}${host(v["ntfyServer"] || "ntfy.sh")}/${v["topic"]}`
      : `ntfy://${v["topic"]}`),
  },
  matrix: {
    fields: ["matrixServer", "token", "room"],
    address: (v) => `matrix://${e(v["token"] ?? "")}@${host(v["matrixServer"] ?? "")}/${e(v["room"] ?? "")}`,
  },
  webhook: { fields: ["url"], address: (v) => v["url"] ?? "" },
};
const SECRET = ["password", "token", "bot"];

/** @param {string} address @returns {string} the name of its service */
export function serviceOf(address) {
  const scheme = address.split(":", 1)[0] ?? "";
  return scheme === "smtp" ? "mail" : scheme in SERVICES ? scheme : "webhook";
}

/** @param {string} service @param {Values} values @returns {Built} */
export function built(service, values) {
  const { fields, address } = /** @type {Service} */ (SERVICES[service]);
  const trimmed = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value.trim()]));
  return { address: address(trimmed), wrong: fields.filter((name) => !name.endsWith("?") && name !== "tls" && !trimmed[name]) };
}

/** @param {{service: string, values: Values, wrong: readonly string[], onService: (to: string) => void, onValues: (to: Values) => void}} props */
export function TargetFields({ service, values, wrong, onService, onValues }) {
  const { fields } = /** @type {Service} */ (SERVICES[service]);
  return html`
    <${Select} label=${t("alarms.service")} value=${service} onChange=${onService}
      hint=${t(`alarms.help.${service}`)}
      options=${Object.keys(SERVICES).map((value) => ({ value, label: t(`alarms.service.${value}`) }))} />
    ${fields.map((field) => {
      const name = field.replace("?", "");
      const set = (/** @type {string} */ value) => onValues({ ...values, [name]: value });
      if (name === "tls") return html`<${Select} key=${name} label=${t("alarms.tls")} value=${values[name] ?? ""} onChange=${set}
        options=${["", "starttls", "tls", "none"].map((value) => ({ value, label: t(`alarms.tls.${value || "auto"}`) }))} />`;
      return html`<${Field} key=${name} label=${t(`alarms.${name}`)} value=${values[name] ?? ""} onInput=${set}
        type=${SECRET.includes(name) ? "password" : "text"} required=${!field.endsWith("?")}
        error=${wrong.includes(name) && t("alarms.missing")}
        placeholder=${["user", "password"].includes(name) ? undefined : t(`alarms.${name}.example`)} autocomplete="off" autocapitalize="off" spellcheck=${false} />`;
    })}`;
}
