/** One idea: small choices kept in this browser; where storage is forbidden they last as long as the page. */

/** @type {Map<string, string>} */
const here = new Map();

/** @param {string} key @returns {string | null} */
export function recall(key) {
  try {
    return localStorage.getItem(`millrace.${key}`) ?? here.get(key) ?? null;
  } catch {
    return here.get(key) ?? null; // forbidden, for example by a setting against tracking
  }
}

/** @param {string} key @param {string | null} value  null forgets it */
export function remember(key, value) {
  if (value === null) here.delete(key);
  else here.set(key, value);
  try {
    if (value === null) localStorage.removeItem(`millrace.${key}`);
    else localStorage.setItem(`millrace.${key}`, value);
  } catch {
    // Forbidden or full: kept above for as long as the page is open.
  }
}
