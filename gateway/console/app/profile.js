/** The user's choices, stored in the gateway, so that they also apply in other browsers. */

import { signal } from "@preact/signals";

import { api } from "../players/api.js";

/** @typedef {Record<string, any>} Profile  `language`, `theme`; `broadcast` and `ivs` belong to other pages */

/** null until it is loaded. @type {import("@preact/signals").Signal<Profile | null>} */
export const profile = signal(null);

/** @returns {Promise<Profile>} */
export async function loadProfile() {
  const stored = await api.get("/profile");
  profile.value = stored ?? {};
  return profile.value ?? {};
}

/** The last change. Changes run one after the other, because each reads the result of the one before. @type {Promise<unknown>} */
let last = Promise.resolve();

/**
 * Changes some entries and keeps the others, also those that another page wrote meanwhile.
 * @param {Profile} changes
 * @returns {Promise<void>}
 */
export function saveProfile(changes) {
  const next = last.then(async () => {
    const now = { ...(await loadProfile()), ...changes };
    await api.put("/profile", now);
    profile.value = now;
  });
  last = next.catch(() => undefined); // the caller gets the error
  return next;
}
