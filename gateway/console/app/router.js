/** One idea: the address's fragment says what is shown: `#/channels/<id>/edit?tab=x`. */

import { signal } from "@preact/signals";

/**
 * @typedef {object} Route
 * @property {string} name            "channels", "live" …; the first part
 * @property {string[]} parts         what follows it, decoded
 * @property {URLSearchParams} query
 * @property {string} path            the whole, without "#"
 */

const HOME = "/channels";

/** @param {string} hash @returns {Route} */
function read(hash) {
  const path = hash.replace(/^#/, "") || HOME;
  const [where = "", query = ""] = path.split(/\?(.*)/s);
  const [name = "", ...parts] = where.split("/").filter(Boolean).map(decoded);
  return { name: name || "channels", parts, query: new URLSearchParams(query), path };
}

/** @param {string} part @returns {string} */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a stray % in a typed address
  }
}

export const route = signal(read(location.hash));

/** Asked before a view with unsaved changes is left. @type {(() => Promise<boolean>) | null} */
let guard = null;

/**
 * @param {(() => Promise<boolean>) | null} ask  whether it may be left; null: there is nothing to lose
 */
export function guardLeaving(ask) {
  guard = ask;
}

/** @param {string} path  such as "/channels" */
export function go(path) {
  location.hash = path;
}

/** The address of a channel's page, as a link. @param {string} id @param {string} [rest] @returns {string} */
export const channelHref = (id, rest = "") => `#/channels/${encodeURIComponent(id)}${rest}`;

let arrived = true; // the first view leaves the focus where the browser put it

/** @returns {boolean} whether a view was come to by a link and has not taken the focus yet; it is taken now */
export function arrive() {
  const first = !arrived;
  arrived = true;
  return first;
}

addEventListener("hashchange", async () => {
  const to = read(location.hash);
  if (to.path === route.value.path) return;
  if (guard) {
    // The address goes back first, so that it always says what is shown.
    history.pushState(null, "", `#${route.value.path}`);
    if (!(await guard())) return;
    guard = null;
    go(to.path);
    return;
  }
  arrived = false;
  route.value = to;
});

addEventListener("beforeunload", (event) => {
  if (guard) event.preventDefault();
});
