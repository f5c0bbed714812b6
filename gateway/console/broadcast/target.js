/** One idea: where a broadcast goes, and where it can be watched: from the console's channel, or from a stream key. */

import { ask, isSignedIn, Refusal } from "./api.js";

/** @typedef {import("./words.js").Word} Word */

/**
 * @typedef {object} Target
 * @property {string} id
 * @property {string} name
 * @property {string[]} urls      of the servers, the preferred one first
 * @property {Record<string, string>} media  what players play, by output: flv, hls, cmaf, dash
 * @property {boolean} ours       is there a console's session that may ask for more?
 * @property {Record<string, any>} item  the stored channel; {} without the console
 */

/** Why there is no target, in words. */
export class NoTarget extends Error {
  /** @param {Word} word @param {string} [reason]  the gateway's */
  constructor(word, reason = "") {
    super(word);
    this.word = word;
    this.reason = reason;
  }
}

const WS = 8081;   // where nothing else is known
const WSS = 8444;

/** Is this the console's own page, not the one of the playback listener? */
export const inConsole = () => location.pathname.startsWith("/console/");

/**
 * @param {string} id
 * @returns {Promise<Target>}
 * @throws {NoTarget}
 */
export async function fromConsole(id) {
  try {
    if (!await isSignedIn()) throw new NoTarget("key.signedOut");
    const [item, nodes] = await Promise.all([ask("GET", `/videostream/${encodeURIComponent(id)}`), servers()]);
    if (item.expired) throw new NoTarget("key.expired");
    const path = `/stream/${item.id}?sign=${item.key}`;
    const others = nodes.map((node) => node + path);
    return {
      id: item.id,
      name: String(item.videoname || item.name || item.id),
      urls: [...new Set([...(item.wsUrl ? [item.wsUrl] : []), ...others])],
      media: item.playUrls ?? {},
      ours: true,
      item,
    };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401) throw new NoTarget("key.signedOut");
    if (error.status === 404) throw new NoTarget("key.noChannel");
    throw new NoTarget("key.away", error.message);
  }
}

/**
 * A key as people paste it: `<id>?sign=…`, or the whole address that it stands in.
 * @param {string} text
 * @returns {{id: string, sign: string, server: URL | null} | null}
 */
export function parseKey(text) {
  const pasted = text.trim();
  const key = /(?:^|[/#])([A-Za-z0-9_-]{1,128})\?(?:[^\s#?]*&)?sign=(\d{1,16}-[0-9a-f]{32,64})(?:[&#]\S*)?$/i.exec(pasted);
  const [, id, sign] = key ?? [];
  if (!id || !sign || /\s/.test(pasted)) return null;
  const [base] = /^(?:wss?|rtmps?|https?):\/\/[^/\s?#]+/i.exec(pasted) ?? [];
  return { id, sign, server: base && URL.canParse(base) ? new URL(base) : null };
}

/**
 * @param {string} text
 * @returns {Promise<Target>}
 * @throws {NoTarget}
 */
export async function fromKey(text) {
  const key = parseKey(text);
  if (key === null) throw new NoTarget("key.wrong");
  const path = `/stream/${key.id}?sign=${key.sign}`;
  const page = `${location.origin}/${key.id}`;
  /** @type {Record<string, string>} */
  const media = inConsole() ? {} : {
    flv: `${page}/live.flv`, hls: `${page}/live.m3u8`, cmaf: `${page}/master.m3u8`, dash: `${page}/manifest.mpd`,
  };
  return { id: key.id, name: key.id, urls: [await pushBase(key.server) + path], media, ours: false, item: {} };
}

/**
 * Where the server of a pasted address takes pushes from pages.
 * @param {URL | null} server
 * @returns {Promise<string>} scheme, host and port
 */
async function pushBase(server) {
  if (server !== null && server.protocol.startsWith("ws")) return `${server.protocol}//${server.host}`;
  const host = server?.hostname || location.hostname;
  const here = host === location.hostname ? await ownPorts() : { ws: WS, wss: WSS };
  // A page that came over https may not speak to a server without TLS, except on this computer.
  const secure = location.protocol === "https:" && (here.wss !== null || here.ws === null);
  return secure ? `wss://${host}:${here.wss ?? WSS}` : `ws://${host}:${here.ws ?? WS}`;
}

/** @returns {Promise<{ws: number | null, wss: number | null}>} of the listener for pushes beside this page's */
async function ownPorts() {
  const reply = await fetch("/broadcast.json", { cache: "no-store" }).catch(() => null);
  return reply?.ok ? await reply.json() : { ws: WS, wss: WSS };
}

/** @returns {Promise<string[]>} bases of all live nodes, the preferred one first */
async function servers() {
  /** @type {{address: string, ports: Record<string, number | null>}[]} */
  const nodes = await ask("GET", "/servers").catch(() => []); // one that cannot tell is still one that can take a push
  const secure = location.protocol === "https:";
  return nodes.flatMap(({ address, ports: { ws = null, wss = null } }) => {
    const host = address.includes(":") && !address.startsWith("[") ? `[${address}]` : address;
    if (secure && wss) return [`wss://${host}:${wss}`];
    return ws ? [`ws://${host}:${ws}`] : [];
  });
}
