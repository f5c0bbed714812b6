/** Finds the target of a broadcast and its playback addresses, from the console's channel or from a stream key. */

import { api, ApiError, link } from "../players/api.js";
import { statusOf } from "./audience.js";

/** @typedef {import("./words.js").Word} Word */

/**
 * @typedef {object} Target
 * @property {string} id
 * @property {string} name
 * @property {string[]} urls      of the servers, the preferred one first
 * @property {string} whip        address for WHIP; "": unknown
 * @property {Record<string, string>} media  playback addresses by output: flv, hls, cmaf, dash, whep
 * @property {boolean} ours       whether a console session can access more of the channel
 * @property {string} foreign    host and port of the server if it is not this page's, else ""
 * @property {Record<string, any>} item  the stored channel; {} without the console
 */

/** Where this page's server accepts pushes. @typedef {{host?: string, ws: number | null, wss: number | null}} PushPorts  host: "" is that of the page */

/** The reason why there is no target. */
export class NoTarget extends Error {
  /** @param {Word} word @param {string} [reason]  of the gateway */
  constructor(word, reason = "") {
    super(word);
    this.word = word;
    this.reason = reason;
  }
}

const WS = 8081;   // default port
const WSS = 8444;

/** Whether this is the console's page, not that of the playback listener. */
export const inConsole = () => location.pathname.startsWith("/console/");

/**
 * @param {string} id
 * @returns {Promise<Target>}
 * @throws {NoTarget}
 */
export async function fromConsole(id) {
  try {
    const { user, csrf } = await api.get("/login");
    link.csrf = csrf;
    if (user === null) throw new NoTarget("key.signedOut");
    if (user.role === "observer") throw new NoTarget("key.observer");
    const [item, nodes] = await Promise.all([api.get(`/videostream/${encodeURIComponent(id)}`), servers("/servers")]);
    if (item.expired) throw new NoTarget("key.expired");
    const path = `/stream/${item.id}?sign=${item.key}`;
    const others = nodes.map((node) => node + path);
    return {
      id: item.id,
      name: String(item.videoname || item.name || item.id),
      urls: [...new Set([...(item.wsUrl ? [item.wsUrl] : []), ...others])],
      whip: item.whipUrl ?? "",
      media: item.playUrls ?? {},
      ours: true,
      foreign: "",
      item,
    };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) throw new NoTarget("key.signedOut");
    if (error.status === 404) throw new NoTarget("key.noChannel");
    throw error.status === 0 ? new NoTarget("key.silent") : new NoTarget("key.away", error.message);
  }
}

/**
 * Parses a pasted key: `<id>?sign=…`, or a whole address that contains it.
 * @param {string} text
 * @returns {{id: string, sign: string, server: URL | null} | null}
 */
export function parseKey(text) {
  const pasted = text.trim();
  const key = /(?:^|[/#])([A-Za-z0-9_-]{1,128})(?:\/whip)?\?(?:[^\s#?]*&)?sign=(\d{1,16}-[0-9a-f]{32,64})(?:[&#]\S*)?$/i.exec(pasted);
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
    whep: `${page}/whep`,
  };
  const ports = await ownPorts();
  const base = pushBase(key.server, ports);
  const foreign = foreignHost(base, location.hostname, ports);
  // Only this page's own server is asked, because the camera is sent to each server of the answer.
  const others = foreign ? [] : await servers(`/_servers/${encodeURIComponent(key.id)}?sign=${key.sign}`);
  const urls = [...new Set([base, ...others])].map((server) => server + path);
  const whip = inConsole() || foreign ? "" : `${page}/whip?sign=${key.sign}`;
  const name = inConsole() || foreign ? null : (await statusOf(`${page}/`))?.name;
  return { id: key.id, name: name || key.id, urls, whip, media: foreign ? {} : media, ours: false, foreign, item: {} };
}

/**
 * A link to this page can name any server, so the user has to agree before the camera is sent there.
 * @param {string} base  address for pushes: scheme, host and port
 * @param {string} page  the host name of this page
 * @param {PushPorts} ports  of pushes on this page's server
 * @returns {string} host and port of the server; "" if it is the server of this page
 */
export function foreignHost(base, page, ports) {
  const { hostname, host, port, protocol } = new URL(base);
  const number = Number(port || (protocol === "wss:" ? 443 : 80));
  return isOurs(hostname, page, ports) && (number === ports.ws || number === ports.wss) ? "" : host;
}

/**
 * Returns the address at which the server of a pasted address accepts pushes from pages.
 * @param {URL | null} server
 * @param {PushPorts} ports  of pushes on this page's server
 * @returns {string} scheme, host and port
 */
function pushBase(server, ports) {
  if (server !== null && server.protocol.startsWith("ws")) return `${server.protocol}//${server.host}`;
  const host = server?.hostname || ports.host || location.hostname;
  const here = isOurs(host, location.hostname, ports) ? ports : { ws: WS, wss: WSS };
  // A page over https must not connect to a server without TLS, except on this computer.
  const secure = location.protocol === "https:" && (here.wss !== null || here.ws === null);
  return secure ? `wss://${host}:${here.wss ?? WSS}` : `ws://${host}:${here.ws ?? WS}`;
}

/** @param {string} host @param {string} page  its host name @param {PushPorts} ports */
const isOurs = (host, page, ports) => host === page || host === ports.host;

/** @returns {Promise<PushPorts>} ports of the push listener on this page's server */
async function ownPorts() {
  const reply = await fetch("/broadcast.json", { cache: "no-store" }).catch(() => null);
  const ports = reply?.ok ? await reply.json().catch(() => null) : null; // a proxy may answer with a page of its own
  return ports ?? { ws: WS, wss: WSS };
}

/** @param {string} list  address of the list @returns {Promise<string[]>} push addresses of all live nodes, the preferred one first */
async function servers(list) {
  /** @type {{address: string, ports: Record<string, number | null>}[]} */
  const nodes = await api.get(list, { quiet: true }).catch(() => []); // even if this request fails, the server can accept a push
  if (!Array.isArray(nodes)) return []; // a proxy has answered with a page of its own
  const secure = location.protocol === "https:";
  return nodes.flatMap(({ address, ports: { ws = null, wss = null } }) => {
    const host = address.includes(":") && !address.startsWith("[") ? `[${address}]` : address;
    if (secure && wss) return [`wss://${host}:${wss}`];
    return ws ? [`ws://${host}:${ws}`] : [];
  });
}
