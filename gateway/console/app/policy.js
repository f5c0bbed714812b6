/** The hosts that the policy of this page forbids: it has the domains that were set when the page was loaded. */

import { signal } from "@preact/signals";

/** @type {import("@preact/signals").Signal<ReadonlySet<string>>} */
const hosts = signal(new Set());

document.addEventListener("securitypolicyviolation", ({ blockedURI }) => {
  if (URL.canParse(blockedURI)) hosts.value = new Set([...hosts.peek(), new URL(blockedURI).host]);
});

/** @param {string} url @returns {boolean} whether a request to its host was forbidden */
export const isForbidden = (url) => hosts.value.has(new URL(url).host);
