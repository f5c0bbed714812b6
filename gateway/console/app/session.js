/** The session: the signed-in user, sign-in and sign-out. */

import { batch, computed, signal } from "@preact/signals";

import { abortAll, api, link } from "../players/api.js";
import { t } from "./i18n.js";

/**
 * The answer of `GET /login`.
 * @typedef {object} Login
 * @property {{name: string, kind: "token" | "user" | "oidc" | "api", role: "administrator" | "broadcaster" | "observer",
 *   channels?: string[]} | null} user  channels: of an observer; none: all
 * @property {string | null} csrf
 * @property {{name: string} | null} oidc  the sign-in provider
 * @property {boolean} users               whether there are users with passwords
 */

/** null: nobody is signed in. @type {import("@preact/signals").Signal<Login["user"]>} */
export const user = signal(null);

/** Whether the user may administer. A broadcaster may only use some channels. */
export const administers = computed(() => user.value?.role === "administrator");

/** Whether the user only reads, without stream keys. */
export const observes = computed(() => user.value?.role === "observer");

/** Whether the user may read what is not of one channel. */
export const readsAll = computed(() => administers.value || (observes.value && !user.value?.channels?.length));

/** The ways to sign in; null until the gateway has answered. @type {import("@preact/signals").Signal<Login | null>} */
export const offer = signal(null);

/** Whether the session expired. The login page then says so, and sign-in returns to the view from before. */
export const ended = signal(false);

/** Whether the gateway does not answer now. */
export const unreachable = signal(false);

/** Whether a proxy answers instead, and probably asks for a sign-in. */
const asks = signal(false);

/** Whether this device has no network, so that the gateway cannot be what fails. */
export const offline = signal(!navigator.onLine);
for (const change of ["online", "offline"]) addEventListener(change, () => { offline.value = !navigator.onLine; });

/**
 * @template {string} K
 * @param {K} other  the words if no cause is known
 * @returns {K | "away.offline" | "away.proxy"} the words for why the gateway does not answer
 */
export const awayWords = (other) => offline.value ? "away.offline" : asks.value ? "away.proxy" : other;

/** @returns {string} why the gateway does not answer */
export const awayText = () => t(awayWords("away.banner"));

link.expired = () => {
  if (!user.value) return;
  ended.value = true;
  leave();
};
link.unreachable = (is, asked = false) => batch(() => { [unreachable.value, asks.value] = [is, asked]; });
link.away = () => t(awayWords("trouble.away"));

/** @param {Login} login */
function take(login) {
  link.csrf = login.csrf;
  offer.value = login;
  user.value = login.user;
  if (login.user) ended.value = false;
}

function leave() {
  link.csrf = null;
  user.value = null;
  abortAll();
}

/** Loads the session. */
export async function refresh() {
  take(await api.get("/login"));
}

link.renew = async () => {
  /** @type {Login} */
  const login = await api.get("/login");
  if (!user.value || !login.user) return false; // signed out: `link.expired` says it
  take(login);
  return true;
};

/**
 * @param {string} name      "" to sign in with the token
 * @param {string} password  or the token
 * @param {string} code      of an authenticator app; "": none
 * @throws {import("../players/api.js").ApiError} 401: wrong; 429: too many tries, with `retryAfter`
 */
export async function login(name, password, code = "") {
  const factor = code ? { code } : {};
  take(await api.post("/login", name ? { name, password, ...factor } : { password }, { quiet: true }));
}

/** Ends the session here and on the gateway. Running requests are aborted first, so that none is refused. */
export async function logout() {
  /** @type {Record<string, string>} */
  const headers = link.csrf ? { "X-CSRF-Token": link.csrf } : {};
  leave();
  ended.value = false;
  await api.post("/logout", {}, { headers, quiet: true });
  await refresh();
}
