/** The page behind a link to a report: it reads the report with the link's signature. */

import { titleBar } from "../players/bar.js";
import { h } from "../players/dom.js";
import { languageTag, speak, speaks } from "../players/language.js";
import { reportView } from "./report.js";
import { speaking } from "./words.js";

/** @typedef {import("./report.js").Report} Report */
/** @typedef {import("./words.js").Word} Word */

const EVERY = 30_000; // ms between two requests while the show lasts

const heading = h("h1");
const print = h("button", { type: "button", class: "print", hidden: true, onclick: () => globalThis.print() });
const note = h("p", { class: "note", role: "status" });
const content = h("main", {}, note);
/** @type {(Report & {channel?: string}) | null} */
let report = null;
/** @type {Word | null} */
let trouble = "report.loading";

function show() {
  const t = speaking(speaks());
  document.documentElement.lang = languageTag();
  heading.textContent = report?.channel || t("report.title");
  document.title = [report?.title, t("report.title")].filter(Boolean).join(" · ");
  print.textContent = t("report.print");
  print.hidden = report === null;
  note.textContent = trouble ? t(trouble) : "";
  content.replaceChildren(note, ...(report ? [reportView(report, speaks())] : []));
}

async function load() {
  try {
    const reply = await fetch(`report.json${location.search}`, { cache: "no-store" });
    trouble = reply.ok ? null : reply.status === 429 ? "report.many" : reply.status < 500 ? "report.gone" : "report.late";
    if (reply.ok) report = await reply.json();
  } catch {
    trouble = "report.late"; // the gateway does not answer; the next request may
  }
  show();
  if (report ? report.end === null : trouble === "report.late") setTimeout(() => void load(), EVERY);
}

document.body.append(titleBar(heading, print), content);
speak(show);
void load();
