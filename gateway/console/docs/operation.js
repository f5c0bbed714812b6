/** Shows one operation: its parameters, its answers, and a form to try it. */

import { h } from "../players/dom.js";
import { trial } from "./trial.js";
import { t } from "./words.js";

/** @typedef {import("./spec.js").Operation} Operation */
/** @typedef {import("./spec.js").Schema} Schema */
/** @typedef {import("./spec.js").Spec} Spec */
/** @typedef {import("./trial.js").Asking} Asking */

/**
 * A `<details>` element; its content is made when it is first opened.
 * @param {Spec} spec
 * @param {Operation} operation
 * @param {Asking} asking
 */
export function operationPart(spec, operation, asking) {
  const { id, method, path, summary, open } = operation;
  const part = h("details", { class: "operation", id, "data-method": method },
    h("summary", {}, badge(method), h("code", { class: "path" }, ...breakable(path)), h("span", { class: "about" }, summary),
      open && h("span", { class: "open" }, t("operation.open"))));
  part.addEventListener("toggle", () => {
    if (!part.open) return;
    if (part.childElementCount === 1) part.append(inside(spec, operation, asking));
    history.replaceState(null, "", `#${id}`);
  });
  return part;
}

/** @param {string} method */
export function badge(method) { return h("span", { class: "method", "data-method": method }, method); }

/** @param {string} path  gets line break positions after slashes */
function breakable(path) {
  return path.split(/(?<=\/)/).flatMap((part) => [part, h("wbr")]);
}

/**
 * @param {Spec} spec
 * @param {Operation} operation
 * @param {Asking} asking
 */
function inside(spec, operation, asking) {
  const { parameters, body, answers } = operation;
  const place = h("div", { class: "inside" });
  if (parameters.length) {
    place.append(h("h4", {}, t("operation.parameters")), h("ul", { class: "fields" },
      ...parameters.map((p) => field(spec, p.name, p.schema, p.required ?? false, p.description ?? "", t(`in.${p.in}`)))));
  }
  for (const [type, { schema }] of Object.entries(body ?? {})) {
    place.append(h("h4", {}, t("operation.body"), " ", h("code", {}, type)),
      shape(spec, schema, t("operation.fields", { name: spec.kind(schema) }), true));
  }
  place.append(trial(spec, operation, asking), h("h4", {}, t("operation.answers")),
    h("ul", { class: "answers" }, ...answers.map(([status, words, content]) =>
    h("li", {}, h("span", { class: "status", "data-class": status[0] ?? "" }, status), h("div", {}, h("p", {}, words),
      ...Object.entries(content).map(([type, { schema }]) => type === "application/json"
        ? shape(spec, schema, spec.kind(schema), false) : h("code", {}, type)))))));
  return place;
}

/**
 * The fields of a schema, in a `<details>` element.
 * @param {Spec} spec
 * @param {Schema} schema
 * @param {string} name
 * @param {boolean} open
 */
function shape(spec, schema, name, open) {
  const object = spec.object(schema);
  if (!object) return h("code", { class: "kind" }, spec.kind(schema));
  const part = h("details", { class: "shape", open }, h("summary", {}, name));
  const fill = () => {
    if (!part.open || part.childElementCount > 1) return;
    if (object.description) part.append(h("p", { class: "words" }, object.description));
    const needed = object.required ?? [];
    part.append(h("ul", { class: "fields" }, ...Object.entries(object.properties ?? {})
      .sort(([a], [b]) => Number(needed.includes(b)) - Number(needed.includes(a)))
      .map(([key, one]) => field(spec, key, one, needed.includes(key), one.description ?? ""))));
    if (object.additionalProperties) part.append(h("p", { class: "words" }, t("operation.more")));
  };
  part.addEventListener("toggle", fill);
  fill();
  return part;
}

/**
 * @param {Spec} spec
 * @param {string} name
 * @param {Schema} schema
 * @param {boolean} required
 * @param {string} words
 * @param {string} [place]
 */
function field(spec, name, schema, required, words, place = "") {
  const inner = spec.object(schema);
  return h("li", {},
    h("div", { class: "field" }, h("code", { class: "name" }, name), h("code", { class: "kind" }, spec.kind(schema)),
      place && h("span", { class: "where" }, place), required && h("span", { class: "required" }, t("operation.required"))),
    words && h("p", { class: "words" }, words),
    inner && shape(spec, schema, t("operation.fields", { name: spec.kind(schema) }), false));
}
