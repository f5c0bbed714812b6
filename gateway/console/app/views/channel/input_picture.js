/** The preview of an input: a picture that is loaded again every two seconds, while it is visible. */

import { useEffect, useRef, useState } from "preact/hooks";

import { t } from "../../i18n.js";
import { html, Icon } from "../../ui.js";
import { hasPicture } from "./input_list.js";

const EVERY = 2000;     // ms; the gateway makes no more pictures
const TRY_AGAIN = 8000; // ms after a failure, such as an input without video

/** The outcome before the first request. */
const NONE = { count: 0, loaded: false };

/** @type {Readonly<Record<import("./input_list.js").Kind, import("../../kit/icon.js").IconName>>} */
export const ICONS = { push: "camera", backup: "camera", pull: "download", playlist: "films", slate: "image" };

/**
 * path: of the channel's inputs. every: ms between two pictures. label: of what it is a picture, instead of the input's name.
 * @param {{path: string, input: Pick<import("./input_list.js").Input, "name" | "kind" | "state">, every?: number,
 *   label?: string}} props
 */
export function InputPicture({ path, input, every = EVERY, label = input.name }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const [seen, setSeen] = useState(false);
  const [at, setAt] = useState(0); // ms since 1970: when the picture was requested; 0: there is none
  const [last, setLast] = useState(NONE);
  const wanted = hasPicture(input);

  useEffect(() => {
    const { current } = place;
    if (current === null) return undefined;
    const watch = new IntersectionObserver((entries) => setSeen(entries.at(-1)?.isIntersecting ?? false));
    watch.observe(current);
    return () => watch.disconnect();
  }, []);

  useEffect(() => {
    if (!wanted) {
      setAt(0);
      setLast(NONE);
    }
    if (!wanted || !seen) return undefined;
    const ended = new AbortController();
    const ask = () => {
      if (document.hidden) document.addEventListener("visibilitychange", ask, { once: true, signal: ended.signal });
      else setAt(Date.now());
    };
    const timer = setTimeout(ask, last.count === 0 ? 0 : last.loaded ? every : TRY_AGAIN);
    return () => { clearTimeout(timer); ended.abort(); };
  }, [wanted, seen, last.count]);

  const done = (/** @type {boolean} */ loaded) => setLast((before) => ({ count: before.count + 1, loaded }));
  return html`<span class="input-picture" ref=${place}><${Icon} name=${ICONS[input.kind]} size=${28} />
    ${wanted && at > 0 && html`<img src=${`${path}/${encodeURIComponent(input.name)}/preview?at=${at}`} hidden=${!last.loaded}
      alt=${t("inputs.picture", { name: label })} onLoad=${() => done(true)} onError=${() => done(false)} />`}
  </span>`;
}
