/** Says what a gateway lacks for some outputs, so that nobody switches on what cannot work. */

import { t } from "./i18n.js";
import { usePoll } from "./poll.js";
import { administers } from "./session.js";

/** @returns {(name: string | undefined) => string} tells what this gateway lacks for an output; "": nothing, or not known */
export function useMissing() {
  /** @type {{ivs?: boolean, speech?: boolean} | null} */
  const status = usePoll(administers.value ? "/status" : null, 60_000).value.data;
  return (name) => ((name === "captions" && status?.speech === false) || (name === "kvs" && status?.ivs === false)
    ? t(`output.missing.${name}`) : "");
}
