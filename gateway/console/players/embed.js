/** The code with which other sites embed a player page. */

/**
 * Returns the HTML that shows a player page in another site.
 * @param {string} page  its address
 */
export function embedCode(page) {
  const framed = `${page}${page.includes("?") ? "&" : "?"}embed=1`;
  return `<iframe src="${framed.replaceAll("&", "&amp;").replaceAll('"', "&quot;")}" width="640" height="360" `
    + 'allow="autoplay; picture-in-picture" allowfullscreen></iframe>';
}
