/** One idea: what a person chose, kept with the gateway, so that it is there in another browser too. */

import { signal } from "@preact/signals";

import { api } from "./api.js";

/** @typedef {Record<string, any>} Profile  `language`, `theme`; `broadcast` and `ivs` belong to other pages */

/** null until it has been asked for. @type {import("@preact/signals").Signal<Profile | null>} */
export const profile = signal(null);

/** @returns {Promise<Profile>} */
export async function loadProfile() {
  const stored = await api.get("/profile");
  profile.value = stored ?? {};
  return profile.value ?? {};
}

/** Changes of the profile follow one another: each begins with what the last one left. @type {Promise<unknown>} */
let last = Promise.resolve();

/**
 * Changes some entries and leaves the others as they are, also those that another page wrote meanwhile.
 * @param {Profile} changes
 * @returns {Promise<void>}
 */
export function saveProfile(changes) {
  const next = last.then(async () => {
    const now = { ...(await loadProfile()), ...changes };
    await api.put("/profile", now);
    profile.value = now;
  });
  last = next.catch(() => undefined); // told to whoever asked for it
  return next;
}
