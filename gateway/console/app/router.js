/** The fragment of the address selects the view: `#/channels/<id>/edit?tab=x`. */

import { signal } from "@preact/signals";

/**
 * @typedef {object} Route
 * @property {string} name            "channels", "live" …; the first part
 * @property {string[]} parts         the following parts, decoded
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
    return part; // a wrong % in a typed address
  }
}

export const route = signal(read(location.hash));

/** Called before a view with unsaved changes is left. @type {(() => Promise<boolean>) | null} */
let guard = null;

/**
 * @param {(() => Promise<boolean>) | null} ask  resolves to whether the view may be left; null: there are no unsaved changes
 */
export function guardLeaving(ask) {
  guard = ask;
}

/** @param {string} path  such as "/channels" */
export function go(path) {
  location.hash = path;
}

/** Returns the link to a channel's page. @param {string} id @param {string} [rest] @returns {string} */
export const channelHref = (id, rest = "") => `#/channels/${encodeURIComponent(id)}${rest}`;

let arrived = true; // the first view does not move the focus

/** @returns {boolean} whether a view was opened by a link and has not taken the focus yet; the call takes it */
export function arrive() {
  const first = !arrived;
  arrived = true;
  return first;
}

addEventListener("hashchange", async () => {
  const to = read(location.hash);
  if (to.path === route.value.path) return;
  if (guard) {
    // The address is reset first, so that it always matches the shown view.
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
