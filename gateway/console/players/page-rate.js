/** Estimates the rate of the link from the largest file that this page has loaded. */

const LEAST_BYTES = 40_000; // of a smaller file, the latency decides

/** @returns {number} bits a second; 0: unknown, because all files were in the cache */
export function pageRate() {
  const files = /** @type {PerformanceResourceTiming[]} */ (performance.getEntriesByType("resource"))
    .filter(({ initiatorType, transferSize }) => initiatorType === "script" && transferSize >= LEAST_BYTES);
  const [largest] = files.sort((a, b) => b.transferSize - a.transferSize);
  return largest ? largest.encodedBodySize * 8000 / Math.max(1, largest.responseEnd - largest.responseStart) : 0;
}
