/** Says what a gateway lacks for some settings, so that nobody switches on what cannot work. */

import { t } from "./i18n.js";
import { usePoll } from "./poll.js";
import { administers } from "./session.js";

/** @typedef {{ivs?: boolean, speech?: boolean, cloudfront?: boolean, ports?: Record<string, number | null>}} Status */

/** By output, field or choice: whether the gateway lacks something for it. @type {Record<string, (status: Status) => boolean>} */
const LACKS = {
  captions: ({ speech }) => speech === false,
  kvs: ({ ivs }) => ivs === false,
  isRtmps: ({ ports }) => ports?.["rtmps"] === null,
  srtPassphrase: ({ ports }) => ports?.["srt"] === null,
  srtPort: ({ ports }) => ports?.["srt"] === null,
  "playAuth.cloudfront": ({ cloudfront }) => cloudfront === false,
};

/** @returns {(name: string | undefined) => string} tells what this gateway lacks; "": nothing, or not known */
export function useMissing() {
  /** @type {Status | null} */
  const status = usePoll(administers.value ? "/status" : null, 60_000).value.data;
  return (name) => (name && status && LACKS[name]?.(status) ? t(`missing.${name}`) : "");
}
