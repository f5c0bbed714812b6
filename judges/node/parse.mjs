// Parsers from npm on one live channel: hls-parser, m3u8-parser, mpd-parser and mp4box.
//
//   JUDGE_MODULES=folder-of-node_modules node parse.mjs http://host:port/id
//
// Prints "BROKEN rule: example" and "NOTE name: value" lines; exit 1 where a rule is broken.
import { createRequire } from "node:module";
import process from "node:process";

const require = createRequire(`${process.env.JUDGE_MODULES}/judge.js`);
const hlsParser = require("hls-parser");
const { Parser } = require("m3u8-parser");
const mpdParser = require("mpd-parser");
const mp4box = require("mp4box");

const base = process.argv[2];
let isBroken = false;

function broken(rule, example) {
  isBroken = true;
  console.log(`BROKEN ${rule}: ${example}`);
}

function note(name, value) {
  console.log(`NOTE ${name}: ${value}`);
}

async function fetchOk(url) {
  const answer = await fetch(url);
  if (answer.status !== 200) throw new Error(`${url} ${answer.status}`);
  return answer;
}

/** Reads a playlist with both parsers; null where hls-parser cannot. */
async function playlist(url) {
  const text = await (await fetchOk(url)).text();
  const other = new Parser();
  other.on("warn", (warning) => note("m3u8-parser warns", warning.message));
  other.push(text);
  other.end();
  const parsed = strict(text, url);
  if (parsed && !parsed.isMasterPlaylist) {
    const complete = parsed.segments.filter((segment) => segment.uri).length;
    if (complete !== other.manifest.segments.length) {
      broken("hls-parser and m3u8-parser count the same segments", `${url} ${complete} ${other.manifest.segments.length}`);
    }
  }
  return parsed;
}

function strict(text, url) {
  hlsParser.setOptions({ strictMode: true, silent: true });
  try {
    return hlsParser.parse(text);
  } catch (error) {
    // It wants parts in the last three entries only; RFC 8216bis 4.4.4.9 counts three target durations.
    if (!error.message.startsWith("Invalid Playlist : Remove EXT-X-PART")) {
      broken("hls-parser reads the playlist strictly", `${url} ${error.message}`);
    }
  }
  hlsParser.setOptions({ strictMode: false, silent: true });
  try {
    return hlsParser.parse(text);
  } catch (error) {
    broken("hls-parser reads the playlist", `${url} ${error.message}`);
    return null;
  }
}

/** Addresses of the media playlists of a multivariant playlist. */
function mediaPlaylists(master, url) {
  const uris = new Set(master.variants.map((variant) => variant.uri));
  for (const variant of master.variants) {
    for (const audio of variant.audio) if (audio.uri) uris.add(audio.uri);
  }
  return [...uris].map((uri) => new URL(uri, url).href);
}

/** mp4box reads header and segments of a media playlist as one file. */
async function readByMp4box(media, url) {
  const file = mp4box.createFile();
  let info = null;
  let samples = 0;
  file.onError = (module, message) => broken("mp4box reads the media", `${url} ${module} ${message}`);
  file.onReady = (found) => {
    info = found;
    file.setExtractionOptions(found.tracks[0].id, null, { nbSamples: 1000 });
    file.start();
  };
  file.onSamples = (_id, _user, found) => {
    samples += found.length;
  };
  let position = 0;
  const append = async (uri) => {
    const data = await (await fetchOk(new URL(uri, url).href)).arrayBuffer();
    data.fileStart = position;
    position += data.byteLength;
    file.appendBuffer(data);
  };
  const segments = media.segments.filter((segment) => segment.uri);
  const header = segments.find((segment) => segment.map)?.map.uri;
  if (!header) return;
  await append(header);
  for (const segment of segments) {
    if (segment.map && segment.map.uri !== header) break;
    await append(segment.uri);
  }
  file.flush();
  if (!info || samples === 0) broken("mp4box finds samples", `${url} ${samples}`);
  else note(`mp4box ${info.tracks[0].codec}`, `${samples} samples`);
}

async function judge() {
  const address = `${base}/master.m3u8`;
  const master = await playlist(address);
  if (master?.isMasterPlaylist) {
    for (const url of mediaPlaylists(master, address)) {
      const media = await playlist(url);
      if (media) await readByMp4box(media, url);
    }
  } else if (master) broken("master.m3u8 is a multivariant playlist", address);
  for (const name of ["live.m3u8", "index.m3u8"]) {
    const answer = await fetch(`${base}/${name}`);
    await answer.arrayBuffer();
    if (answer.status === 200) await playlist(`${base}/${name}`);
  }
  const text = await (await fetchOk(`${base}/manifest.mpd`)).text();
  const warnings = [];
  const eventHandler = (event) => warnings.push(`${event.type} ${event.message}`);
  const manifest = mpdParser.parse(text, { manifestUri: `${base}/manifest.mpd`, eventHandler });
  const audio = Object.keys(manifest.mediaGroups?.AUDIO ?? {}).length;
  if (manifest.playlists.length === 0 && audio === 0) broken("mpd-parser finds playlists", "none");
  note("mpd-parser", `${manifest.playlists.length} playlists; ${warnings.join(" | ")}`);
}

try {
  await judge();
} catch (error) {
  broken("the outputs can be read", error.message);
}
process.exit(isBroken ? 1 : 0);
