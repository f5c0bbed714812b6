/** Reads AMF0, as far as script data of the gateway need it: strings, numbers, booleans, and objects of them. */

/** @typedef {string | number | boolean | null} AmfSimple */
/** @typedef {Record<string, AmfSimple>} AmfObject */

const MOST = 64; // members of an object
const NUMBER = 0, BOOLEAN = 1, STRING = 2, OBJECT = 3, NULL = 5, UNDEFINED = 6, ARRAY = 8, END = 9, LONG_STRING = 12;

/**
 * Returns the name of script data and its first object, whose members of other types are missing.
 *
 * Source: AMF 0 specification (Adobe, 2006), sections 2.1 to 2.18.
 * @param {Uint8Array<ArrayBuffer>} body
 * @returns {{name: string, values: AmfObject} | null}  null for other and damaged bytes
 */
export function scriptData(body) {
  const reader = new Reader(body);
  try {
    const name = reader.value();
    const values = reader.object();
    return typeof name === "string" && values ? { name, values } : null;
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** Throws RangeError at the end of the bytes, and for a type that it does not know. */
class Reader {
  #view; #at = 0;

  /** @param {Uint8Array<ArrayBuffer>} bytes */
  constructor(bytes) { this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength); }

  /** @returns {AmfSimple} */
  value() { return this.#simple(this.#u8()); }

  /** @returns {AmfObject | null}  null: another value */
  object() {
    const type = this.#u8();
    if (type !== OBJECT && type !== ARRAY) return null;
    if (type === ARRAY) this.#skip(4); // its length is only a hint (section 2.10)
    /** @type {AmfObject} */
    const values = Object.create(null);
    for (let members = 0; members < MOST; members++) {
      const key = this.#text(this.#u16());
      const kind = this.#u8();
      if (kind === END) return values;
      values[key] = this.#simple(kind);
    }
    throw new RangeError("too many members");
  }

  /** @param {number} type @returns {AmfSimple} */
  #simple(type) {
    switch (type) {
      case NUMBER: return this.#view.getFloat64(this.#skip(8));
      case BOOLEAN: return this.#u8() !== 0;
      case STRING: return this.#text(this.#u16());
      case LONG_STRING: return this.#text(this.#view.getUint32(this.#skip(4)));
      case NULL:
      case UNDEFINED: return null;
      default: throw new RangeError(`type ${type}`);
    }
  }

  #u8() { return this.#view.getUint8(this.#skip(1)); }

  #u16() { return this.#view.getUint16(this.#skip(2)); }

  /** @param {number} size  bytes @returns {string} */
  #text(size) {
    const at = this.#skip(size);
    if (this.#at > this.#view.byteLength) throw new RangeError("the text is cut off");
    return new TextDecoder().decode(new Uint8Array(this.#view.buffer, this.#view.byteOffset + at, size));
  }

  /** @param {number} size @returns {number} the place before it */
  #skip(size) {
    const at = this.#at;
    this.#at += size;
    return at;
  }
}
