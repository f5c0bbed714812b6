/** One idea: what the end of a connection means: give up, or try again. */

/** @typedef {import("./types.js").Trouble} Trouble */

/**
 * How the connection went before it ended.
 * @typedef {object} Past
 * @property {boolean} opened    did this one open?
 * @property {boolean} accepted  was this broadcast live before, on whichever connection?
 * @property {boolean} early     did this broadcast begin only a few seconds ago?
 * @property {boolean} secure    wss
 */

/**
 * @param {number} code  of the close event; 1006 is the browser's word for "no close was said"
 * @param {Past} past
 * @returns {{why: Trouble, again: boolean}}
 */
export function judge(code, past) {
  switch (code) {
    case 4401: return { why: "key", again: false };
    case 4410: return { why: "kicked", again: false };
    // What was ours a moment ago is most likely still held by our own dead connection; a page that was loaded anew does
    // not know that it was, so it tries for a while.
    case 4409: return past.accepted ? { why: "ownConnection", again: true } : { why: "inUse", again: past.early };
    case 1013: return { why: "busy", again: true };
    case 1003: case 1007: return { why: "unusable", again: false };
    case 1008: return { why: "policy", again: false };
    case 1009: return { why: "tooBig", again: false };
    case 1001: case 1012: return { why: "shutdown", again: true };
    case 1000: case 1005: return { why: "closed", again: true };
    case 1011: case 1014: return { why: "server", again: true };
    case 1015: return { why: "tls", again: true };
    default:
      if (past.opened) return { why: "lost", again: true };
      return { why: past.secure ? "tls" : "unreachable", again: true };
  }
}
