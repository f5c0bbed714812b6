/** The editable fields of a channel: their kinds, limits and default values. */

import { computed, signal } from "@preact/signals";

import { api } from "../../players/api.js";
import { entriesOf, expiry, fromLocal, isNever, isOn, NEVER, toLocal } from "../channel.js";
import { installed } from "../installed_outputs.js";
import { once } from "../once.js";

/** @typedef {import("../channel.js").Channel} Channel */
/**
 * A field as the gateway describes it.
 * @typedef {object} Field
 * @property {string} name
 * @property {"flag" | "number" | "choice" | "text" | "hosts" | "targets" | "captions" | "days" | "moment"} type  moment: date and time in
 *   this zone; targets: changed by a part of its own
 * @property {any} default              null: the gateway's own setting
 * @property {number | null} minimum
 * @property {number | null} maximum    of a text or a list: its length
 * @property {boolean} whole
 * @property {string[]} values          of a choice
 * @property {Record<string, string>} aliases  other names of these values, which older clients stored
 * @property {string} unit
 * @property {string} [group]           the section in which it stands
 * @property {boolean} [used]           false: it has no effect on this gateway
 */
/** @typedef {{source: string, language: string, label: string, default: boolean}} Caption */
/** The form's values: text for typed fields, booleans for flags, a list for captions. @typedef {Record<string, any>} Draft */

/** When the channel expires; the gateway makes a key of it. @type {Field} */
const OUTDATE = {
  name: "outdate", group: "basics", type: "moment", default: null, minimum: null, maximum: null, whole: false, values: [], aliases: {},
  unit: "",
};

/** The fields of the gateway, in the order of the form; empty until `loadFields` has settled. */
export const ownFields = signal(/** @type {Field[]} */ ([]));

/** Settles when `ownFields` is known. */
export const loadFields = once(async () => { ownFields.value = [OUTDATE, ...await api.get("/fields")]; });

/** All fields by name, also those of installed outputs. @type {import("@preact/signals").ReadonlySignal<Record<string, Field>>} */
export const allFields = computed(() => {
  const fields = [...ownFields.value, ...installed.value.flatMap((output) => output.fields)];
  return Object.fromEntries(fields.map((field) => [field.name, field]));
});

/**
 * Returns the form's values for a stored channel.
 * @param {Channel} channel
 * @returns {Draft}
 */
export function draftOf(channel) {
  /** @type {Draft} */
  const draft = {};
  for (const [name, field] of Object.entries(allFields.value)) {
    const value = channel[name];
    const given = value === undefined || value === null ? String(field.default ?? "") : String(value);
    switch (field.type) {
      case "flag": draft[name] = isOn(value ?? field.default); break;
      case "moment": draft[name] = isNever(expiry(channel)) ? NEVER : toLocal(expiry(channel)); break;
      case "captions": draft[name] = (Array.isArray(value) ? value : []).map(captionOf); break;
      case "hosts": draft[name] = entriesOf(value).join("\n"); break;
      case "number": draft[name] = value === "" ? String(field.default) : given; break;
      case "choice": draft[name] = typeof value === "string" ? field.aliases[value] ?? value : field.default ?? ""; break;
      default: draft[name] = given;
    }
  }
  return draft;
}

/** @param {Partial<Caption>} stored @returns {Caption} */
export const captionOf = ({ source = "text", language = "", label = "", default: first = false }) =>
  ({ source: String(source).toLowerCase(), language, label, default: first });

/** @param {any} a @param {any} b @returns {boolean} */
export const same = (a, b) => (Array.isArray(a) && Array.isArray(b) ? JSON.stringify(a) === JSON.stringify(b) : a === b);

/** @param {Draft} before @param {Draft} now @returns {string[]} the names of the changed fields */
export const changedFields = (before, now) => Object.keys(allFields.value).filter((name) => !same(before[name], now[name]));

/** Why a value is wrong. @typedef {{why: "number", field: Field} | {why: "moment"} | {why: "missing"}} Wrong */

/**
 * Returns the changes for the API, and the fields that are wrong. The gateway checks the rest.
 * @param {Draft} before
 * @param {Draft} now
 * @returns {{body: Record<string, unknown>, wrong: Record<string, Wrong>}}
 */
export function changesOf(before, now) {
  /** @type {Record<string, unknown>} */
  const body = {};
  /** @type {Record<string, Wrong>} */
  const wrong = {};
  const fields = allFields.value;
  for (const name of changedFields(before, now)) {
    const field = /** @type {Field} */ (fields[name]);
    const value = now[name];
    switch (field.type) {
      case "days":
      case "number": {
        const figure = value.trim() === "" ? NaN : Number(value);
        if (field.type === "days" && value.trim() === "") body[name] = null;
        else if (!isWithin(figure, field)) wrong[name] = { why: "number", field };
        else body[name] = figure;
        break;
      }
      case "moment": {
        const moment = value === NEVER ? NEVER : fromLocal(value);
        if (moment === null) wrong[name] = { why: "moment" };
        else body[name] = moment;
        break;
      }
      case "captions":
        body[name] = value.map((/** @type {Caption} */ { language, label, ...more }) => ({ ...more, language: language.trim(), label: label.trim() }));
        break;
      // An empty field means no list (null); an empty list would block all hosts.
      case "hosts": body[name] = value.trim() ? value.split(/[\s,]+/).filter(Boolean) : null; break;
      case "choice": body[name] = value === "" ? null : value; break;
      case "text":
        body[name] = name === "WaterMarkText" || name === "description" ? value : value.trim();
        if (name === "videoname" && !value.trim()) wrong[name] = { why: "missing" };
        break;
      default: body[name] = value;
    }
  }
  return { body, wrong };
}

/** @param {number} figure @param {Field} field @returns {boolean} */
function isWithin(figure, { minimum, maximum, whole }) {
  return figure >= (minimum ?? -Infinity) && figure <= (maximum ?? Infinity) && (!whole || Number.isInteger(figure));
}
