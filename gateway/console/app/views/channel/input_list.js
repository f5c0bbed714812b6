/** The list of a channel's inputs as the API has it: its types, its changes, and the fields that the API refuses. */

/** @typedef {"push" | "backup" | "pull" | "playlist" | "slate"} Kind */

/** When an input is left although it delivers: the mean of so many seconds is below a bit rate. @typedef {{kbps: number, seconds: number}} Below */

/**
 * An input as it is stored. Each kind has only some of the members.
 * @typedef {object} Stored
 * @property {string} name
 * @property {Kind} kind
 * @property {string} [url]       of a pull
 * @property {string[]} [items]   of a playlist: keys of the store, some with the time of day: `key@20:00`
 * @property {boolean} [loop]     of a playlist
 * @property {string} [zone]      of a playlist: time zone of the times; "": UTC
 * @property {string} [picture]   of a slate; "": a card
 * @property {string} [text]      of a slate's card
 * @property {boolean} [always]
 * @property {Below | null} [below]  of a push, a backup and a pull; null: none
 */

/**
 * taken: it was put on air by hand. pushUrl, pushUrls: of a push and a backup.
 * @typedef {Stored & {state: State, error: string | null, taken: boolean, key?: string, pushUrl?: string,
 *   pushUrls?: Record<string, string>}} Input
 */
/** @typedef {"off" | "connecting" | "ready" | "on air" | "failed"} State */

/** The kinds that can be added, in the order of the menu. @type {readonly Kind[]} */
export const ADDED = ["backup", "slate", "pull", "playlist"];

export const MOST = 8; // inputs of a channel

/** The members of each kind besides name and kind, with the values of a new input. @type {Readonly<Record<Kind, Partial<Stored>>>} */
export const MEMBERS = {
  push: { below: null }, backup: { below: null }, pull: { url: "", always: false, below: null }, playlist: { items: [], loop: true, zone: "", always: false },
  slate: { picture: "", text: "", always: false },
};

/** Returns an input without what the API computes. @param {Input | Stored} input @returns {Stored} */
export function stored(input) {
  const names = ["name", "kind", ...Object.keys(MEMBERS[input.kind])];
  return /** @type {Stored} */ (Object.fromEntries(Object.entries(input).filter(([name]) => names.includes(name))));
}

/**
 * Returns the list with one input at another place. The list is unchanged at its ends.
 * @param {readonly Input[]} inputs @param {number} index @param {-1 | 1} step
 * @returns {Stored[]}
 */
export function moved(inputs, index, step) {
  const list = inputs.map(stored);
  const [one, other] = [list[index], list[index + step]];
  if (one && other) [list[index], list[index + step]] = [other, one];
  return list;
}

/**
 * Returns a name that the channel does not use yet: "slate", "slate2" …
 * @param {readonly {name: string}[]} inputs @param {Kind} kind
 */
export function freeName(inputs, kind) {
  const used = inputs.map((input) => input.name);
  for (let n = 1; ; n += 1) {
    const name = n === 1 ? kind : `${kind}${n}`;
    if (!used.includes(name)) return name;
  }
}

/** Whether an item of a playlist has a time of day. @param {string} item */
export const hasTime = (item) => /@\d{1,2}:\d{2}(:\d{2})?$/.test(item);

/** The words in the gateway's messages by the field that they are about. @type {readonly [string, RegExp][]} */
const FIELDS = [
  ["url", /\baddress of a pull\b|\bmasked address\b|^url\b/],
  ["items", /\bitems\b/],
  ["below", /^below\b/],
  ["zone", /^zone\b/],
  ["picture", /\bpicture\b/],
  ["text", /^text\b/],
  ["name", /\bname of an input\b|\binputs are called\b|\bcan be called\b/],
];

/**
 * Returns the field that the gateway's message is about.
 * @param {string} message @param {Kind} kind
 * @returns {string}  "": none that this kind has
 */
export function wrongField(message, kind) {
  const [field = ""] = FIELDS.find(([, words]) => words.test(message)) ?? [];
  return field === "name" || field in MEMBERS[kind] ? field : "";
}

/**
 * Returns server and stream key of a push address, as encoders ask for them.
 * @param {string} url  rtmp://host/stream/<id>?sign=…
 */
export function partsOf(url) {
  const query = url.indexOf("?");
  const slash = url.lastIndexOf("/", query < 0 ? url.length : query);
  return { server: url.slice(0, slash), key: url.slice(slash + 1) };
}

/** Whether the gateway surely has a picture of the input, if it has video. @param {Pick<Input, "state">} input */
export const hasPicture = ({ state }) => state === "on air" || state === "ready";
