/** How many channels of the wall fit on the screen, and in how many columns their pictures are largest. */

const LEAST = 240; // px, the width of a picture that can be recognised
const WORDS = 96;  // px, the height of the words below it
const RATIO = 9 / 16;
const MOST = 16;   // pictures at once, because the gateway makes each of them

/**
 * @param {number} count   of channels
 * @param {number} width   px
 * @param {number} height  px
 * @returns {{columns: number, rows: number}}  at least 1 each, at most MOST cells, which may be fewer than channels
 */
export function fit(count, width, height) {
  const mostColumns = Math.min(MOST, Math.max(1, Math.floor(width / LEAST)));
  const mostRows = Math.max(1, Math.floor(height / (LEAST * RATIO + WORDS)));
  let best = { columns: 1, rows: 1, shown: 0, size: 0 };
  for (let columns = 1; columns <= mostColumns; columns += 1) {
    const rows = Math.max(1, Math.min(mostRows, Math.floor(MOST / columns), Math.ceil(count / columns)));
    const shown = Math.min(count, columns * rows);
    const size = Math.min(width / columns * RATIO, height / rows - WORDS);
    if (shown > best.shown || (shown === best.shown && size > best.size)) best = { columns, rows, shown, size };
  }
  return best;
}
