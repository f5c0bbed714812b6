/** The last events of a channel. */

import { t } from "../../i18n.js";
import { usePoll } from "../../poll.js";
import { readsAll } from "../../session.js";
import { Card, html, LinkButton } from "../../ui.js";
import { EventList, rowsOf } from "../parts/events.js";

const SHOWN = 5;
const ASKED = 100; // files of one show are one row
const EVERY = 10_000; // ms

/** @param {{id: string}} props */
export function RecentEvents({ id }) {
  const channel = encodeURIComponent(id);
  const { data } = usePoll(`/events?channel=${channel}&limit=${ASKED}`, EVERY).value;
  if (!data?.length) return null;
  return html`<${Card} title=${t("event.recent")} class="is-events"
    actions=${readsAll.value && html`<${LinkButton} small href=${`#/events?channel=${channel}`}>${t("event.all")}<//>`}>
    <${EventList} label=${t("event.recent")} events=${rowsOf(data).slice(0, SHOWN)} /><//>`;
}
