/** Reads an OpenAPI document: its operations, and short descriptions of its schemas. */

/**
 * The parts of JSON Schema that the description uses.
 * @typedef {object} Schema
 * @property {string} [$ref]
 * @property {string | string[]} [type]
 * @property {string} [description]
 * @property {string} [format]
 * @property {unknown[]} [enum]
 * @property {unknown} [const]
 * @property {unknown} [default]
 * @property {unknown[]} [examples]
 * @property {Schema[]} [anyOf]
 * @property {Schema[]} [oneOf]
 * @property {Schema} [items]
 * @property {Record<string, Schema>} [properties]
 * @property {boolean | Schema} [additionalProperties]
 * @property {string[]} [required]
 */

/** @typedef {Record<string, {schema: Schema}>} Content  by media type */
/** @typedef {{name: string, in: "path" | "query", required?: boolean, description?: string, schema: Schema}} Parameter */

/**
 * @typedef {object} Operation
 * @property {string} id
 * @property {string} method    in capitals
 * @property {string} path      with `{names}`
 * @property {string} tag
 * @property {string} summary
 * @property {boolean} open     needs neither a token nor a session
 * @property {Parameter[]} parameters
 * @property {Content | null} body
 * @property {[status: string, description: string, content: Content][]} answers
 */

/** @typedef {{info: {title: string, version: string, description?: string}, paths: Record<string, Record<string, any>>,
 *   components: {schemas: Record<string, Schema>}}} Document */

export class Spec {
  /** @param {Document} document */
  constructor(document) {
    this.info = document.info;
    this.#schemas = document.components.schemas;
    /** @type {Operation[]} */
    this.operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, it]) => ({
        id: it.operationId,
        method: method.toUpperCase(),
        path,
        tag: it.tags?.[0] ?? "",
        summary: it.summary ?? "",
        open: Array.isArray(it.security) && it.security.length === 0,
        parameters: it.parameters ?? [],
        body: it.requestBody?.content ?? null,
        answers: Object.entries(it.responses).map(([status, { description, content }]) => [status, description ?? "", content ?? {}]),
      })));
  }

  /** @type {Record<string, Schema>} */
  #schemas;

  /** @returns {Map<string, Operation[]>} by tag, in the document's order */
  get byTag() {
    /** @type {Map<string, Operation[]>} */
    const tags = new Map();
    for (const one of this.operations) tags.set(one.tag, [...tags.get(one.tag) ?? [], one]);
    return tags;
  }

  /**
   * @param {Schema} schema
   * @returns {Schema} the referenced schema
   */
  follow(schema) {
    const name = refersTo(schema);
    return name ? this.#schemas[name] ?? {} : schema;
  }

  /**
   * @param {Schema} schema
   * @returns {string} "string", "Channel[]", "boolean | \"true\" | \"false\"", …
   */
  kind(schema) {
    const name = refersTo(schema);
    if (name) return name;
    const several = schema.anyOf ?? schema.oneOf;
    if (several) return [...new Set(several.map((one) => this.kind(one)))].join(" | ");
    if ("const" in schema) return JSON.stringify(schema.const);
    if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
    if (schema.items) {
      const kind = this.kind(schema.items);
      return kind.includes(" | ") ? `(${kind})[]` : `${kind}[]`;
    }
    if (typeof schema.additionalProperties === "object"
      && !schema.properties) return `{ [name]: ${this.kind(schema.additionalProperties)} }`;
    const type = Array.isArray(schema.type) ? schema.type.join(" | ") : schema.type ?? "any";
    return schema.format ? `${type} (${schema.format})` : type;
  }

  /**
   * @param {Schema} schema
   * @returns {Schema | null} the object whose fields are listed: itself, its item type, or the only object of several alternatives
   */
  object(schema) {
    const found = this.follow(schema);
    if (found.properties) return found;
    if (found.items) return this.object(found.items);
    if (typeof found.additionalProperties === "object") return this.object(found.additionalProperties);
    for (const one of found.anyOf ?? found.oneOf ?? []) {
      const inside = this.object(one);
      if (inside) return inside;
    }
    return null;
  }

  /**
   * @param {Schema} schema
   * @returns {unknown} an example value with only the required fields
   */
  example(schema) {
    const found = this.follow(schema);
    if (found.examples?.length) return found.examples[0];
    if (found.default !== undefined) return found.default;
    if ("const" in found) return found.const;
    if (found.enum) return found.enum[0];
    const first = (found.anyOf ?? found.oneOf)?.[0];
    if (first) return this.example(first);
    if (found.properties) {
      const needed = found.required ?? [];
      return Object.fromEntries(Object.entries(found.properties).filter(([name]) => needed.includes(name)).map(([name, one]) =>
        [name, this.example(one)]));
    }
    switch (Array.isArray(found.type) ? found.type[0] : found.type) {
      case "array": return [];
      case "object": return {};
      case "integer": case "number": return 0;
      case "boolean": return true;
      case "null": return null;
      default: return "";
    }
  }
}

/** @param {Schema} schema */
function refersTo(schema) { return schema.$ref?.split("/").at(-1) ?? null; }
