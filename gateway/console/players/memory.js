/** Stores the viewer's choices; without permission to store, they last only for this page. */

/** @type {Map<string, string>} */
const here = new Map();

/**
 * @param {string} name
 * @returns {string | null}
 */
export function recall(name) {
  const kept = here.get(name);
  if (kept !== undefined) return kept;
  try {
    return localStorage.getItem(`millrace.${name}`);
  } catch {
    return null; // storage is forbidden here
  }
}

/**
 * @param {string} name
 * @param {string | null} value  null: deletes it
 */
export function keep(name, value) {
  if (value === null) here.delete(name);
  else here.set(name, value);
  try {
    if (value === null) localStorage.removeItem(`millrace.${name}`);
    else localStorage.setItem(`millrace.${name}`, value);
  } catch { /* forbidden or full: this page keeps the value in memory */ }
}
