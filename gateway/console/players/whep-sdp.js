/** The changes that WHEP and WHIP need in session descriptions. No I/O. */

/**
 * Asks for both channels of the sound: Chromium decodes Opus as mono otherwise (RFC 7587 §7.1).
 * @param {string} sdp  an offer
 * @returns {string}
 */
export function withStereo(sdp) {
  const type = /^a=rtpmap:(\d+) opus\/48000\/2/im.exec(sdp)?.[1];
  if (!type) return sdp;
  return sdp.replace(new RegExp(`^(a=fmtp:${type} )(?!.*\\bstereo=)(.*)$`, "m"), "$1$2;stereo=1");
}

/**
 * The fragment of an offer that asks for an ICE restart (RFC 9725 §4.3.3).
 * @param {string} sdp
 * @returns {string}
 */
export function restartFragment(sdp) {
  const wanted = /^(?:a=(?:group:BUNDLE|ice-options|ice-ufrag|ice-pwd|mid)[: ]?|m=)/;
  const lines = sdp.split(/\r?\n/).filter((line) => wanted.test(line));
  return `${lines.join("\r\n")}\r\n`;
}

/**
 * The former answer with the credentials and candidates of a fragment.
 * @param {string} answer
 * @param {string} fragment  of the server
 * @returns {string}
 */
export function restarted(answer, fragment) {
  const [ufrag, password] = [/^a=ice-ufrag:.*$/m, /^a=ice-pwd:.*$/m].map((line) => line.exec(fragment)?.[0].trim());
  if (!ufrag || !password) throw new Error("the server's fragment has no ICE credentials");
  const candidates = fragment.match(/^a=candidate:.*$/gm)?.map((line) => line.trim()) ?? [];
  const lines = answer.split(/\r?\n/).filter((line) => !line.startsWith("a=candidate:") && line !== "a=end-of-candidates");
  let placed = false;
  return lines.flatMap((line) => {
    if (line.startsWith("a=ice-ufrag:")) return ufrag;
    if (!line.startsWith("a=ice-pwd:")) return line;
    const more = placed ? [] : [...candidates, "a=end-of-candidates"];
    placed = true;
    return [password, ...more];
  }).join("\r\n");
}
