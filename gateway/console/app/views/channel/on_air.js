/** A picture of what is on air. It becomes the preview when it is pressed. */

import { t } from "../../i18n.js";
import { Card, html, Icon } from "../../ui.js";
import { InputPicture } from "./input_picture.js";

/** @typedef {import("../../channel.js").Session} Session */
/** @typedef {import("./input_list.js").Input} Input */

const OLD = 5; // seconds; a picture of that age is said to be old

/** @param {{path: string, session: Session, inputs: readonly Input[], onPlay: () => void}} props  path: of the channel's inputs */
export function OnAir({ path, session, inputs, onPlay }) {
  const input = inputs.find(({ name }) => name === session.input) ?? inputs[0];
  if (!input || !session.tracks.some((track) => track.kind === "video")) return null;
  // The list of a single input is requested seldom, but its session says that it is on air.
  // The picture is the last key frame. Before the second one, only the age of the push bounds its age.
  const age = session.measured?.gop ?? (Date.now() - Date.parse(session.since ?? "")) / 1000;
  return html`<${Card} title=${t("preview.title")} class="is-preview">
    <button class="on-air" type="button" aria-label=${t("preview.play")} onClick=${onPlay}>
      <${InputPicture} path=${path} input=${{ ...input, state: "on air" }} /><span class="on-air-play"><${Icon} name="play" size=${26} /></span>
    </button>
    ${age > OLD && html`<p class="hint">${t("preview.old", { n: Math.round(age) })}</p>`}<//>`;
}
