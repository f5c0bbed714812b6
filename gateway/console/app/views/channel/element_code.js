/** The code with which other sites play a channel without a frame. */

/**
 * Returns the HTML that plays a channel in another site without a frame.
 * @param {string} page  the address of its watch page
 */
export function elementCode(page) {
  const { origin, pathname, searchParams } = new URL(page);
  const sign = searchParams.get("sign");
  return `<script type="module" src="${origin}/player.js"></script>\n`
    + `<millrace-player channel="${pathname.split("/")[1]}"${sign ? ` sign="${sign}"` : ""} autoplay muted controls></millrace-player>`;
}
