/** Decides whether to reconnect after the end of a connection. */

/** @typedef {import("./types.js").Trouble} Trouble */

/**
 * The state of the connection before it ended.
 * @typedef {object} Past
 * @property {boolean} opened    whether this connection was open
 * @property {boolean} accepted  whether this broadcast was live before, on any connection
 * @property {boolean} early     whether this broadcast began only a few seconds ago
 * @property {boolean} secure    wss
 */

/**
 * @param {number} code  of the close event; 1006: closed without a close frame
 * @param {Past} past
 * @returns {{why: Trouble, again: boolean}}
 */
export function closePolicy(code, past) {
  switch (code) {
    case 4401: return { why: "key", again: false };
    case 4408: return { why: "stalled", again: true };
    case 4410: return { why: "kicked", again: false };
    // If this page used the channel a moment ago, its dead connection probably still occupies the channel. A reloaded
    // page does not know this, so it tries for some seconds.
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

/**
 * The same for WHIP.
 * @param {number} status  of the server's answer; 0: none
 * @param {Past} past
 * @returns {{why: Trouble, again: boolean}}
 */
export function whipPolicy(status, past) {
  switch (status) {
    case 401: case 403: return { why: "key", again: false };
    case 409: return closePolicy(4409, past);
    case 429: case 503: return { why: "busy", again: true };
    case 400: case 406: case 415: return { why: "unusable", again: false };
    case 404: case 405: return { why: "noWhip", again: false };
    case 0: return closePolicy(1006, past);
    default: return { why: "server", again: true };
  }
}
