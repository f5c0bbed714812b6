/** The stream key of a captioner's page. It is taken out of the page's address before other modules read that. */

const NAME = `millrace.caption-key.${location.pathname.split("/").at(-2) ?? ""}`;

let key = stored();
const given = new URLSearchParams(location.search).get("sign");
if (given) {
  keepKey(given);
  // No link of the page and no request for media may contain the key.
  const rest = location.search.replace(/([?&])sign=[^&]*(?:&|$)/, "$1").replace(/[?&]$/, "");
  history.replaceState(null, "", `${location.pathname}${rest}${location.hash}`);
}

/** @returns {string}  "": it is unknown */
export const streamKey = () => key;

/** @param {string} value  kept until this tab is closed; "": forgets it */
export function keepKey(value) {
  key = value;
  try {
    sessionStorage.setItem(NAME, value);
  } catch { /* storage is forbidden here: the page keeps it in memory */ }
}

/** @returns {string} */
function stored() {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}
