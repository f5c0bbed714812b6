/** Sends requests to the API with the session's CSRF token, and converts refusals to errors. */

/** The gateway refused a request, or did not answer (`status` 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} message  of the gateway
   * @param {{field?: string | undefined, retryAfter?: number | undefined}} [more]  field: the wrong field of the body.
   *   retryAfter: seconds
   */
  constructor(status, message, { field, retryAfter } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.field = field;
    this.retryAfter = retryAfter;
  }
}

/**
 * Set by the page that holds the session, such as the console by its session.js.
 * `renew`: reads the session again, and returns whether somebody is signed in. Another tab may have signed in since: this
 * changes the cookie and `csrf`.
 * `unreachable`: with each answer. asks: a proxy answers instead, probably for a sign-in.
 * `away`: the text of an error if the gateway does not answer; the browser's own text is English.
 * @type {{csrf: string | null, expired: () => void, unreachable: (is: boolean, asks?: boolean) => void, renew: () => Promise<boolean>, away: () => string}}
 */
export const link = {
  csrf: null, expired: () => undefined, unreachable: () => undefined, renew: async () => false, away: () => "",
};

/** @type {Set<AbortController>} */
const inFlight = new Set();

/** Aborts all running requests; their promises reject with an AbortError. */
export function abortAll() {
  for (const one of inFlight) one.abort();
}

/** @param {unknown} error @returns {boolean} whether a request was only aborted */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";

/**
 * quiet: the caller handles a 401. again: a second try.
 * @typedef {{signal?: AbortSignal, headers?: Record<string, string>, quiet?: boolean, again?: boolean}} Options
 */

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {Options} [options]
 * @returns {Promise<any>} the answer's JSON, or its text if it is not JSON, or null if it is empty
 */
async function request(method, path, body, options = {}) {
  const own = new AbortController();
  const stop = () => own.abort();
  options.signal?.addEventListener("abort", stop);
  if (options.signal?.aborted) stop();
  inFlight.add(own);
  try {
    /** @type {Record<string, string>} */
    const headers = { Accept: "application/json", ...options.headers };
    const file = body instanceof Blob; // a picture is sent as it is
    if (body !== undefined && !file) headers["Content-Type"] = "application/json";
    const { csrf } = link;
    if (method !== "GET" && csrf) headers["X-CSRF-Token"] = csrf;
    const reply = await fetch(path, {
      method, headers, body: file ? body : body === undefined ? null : JSON.stringify(body), signal: own.signal,
      credentials: "same-origin", cache: "no-store", redirect: "manual",
    }).catch((error) => { if (isAbort(error)) throw error; return Response.error(); });
    const said = parsed(await reply.text());
    // The API sends no redirects or pages, and its 503 is JSON.
    const asks = reply.type === "opaqueredirect" || (reply.ok && /html/.test(reply.headers.get("Content-Type") || ""));
    const away = asks || !reply.status || (reply.status > 501 && method !== "HEAD" && typeof said !== "object");
    link.unreachable(away, asks);
    if (away) throw new ApiError(0, link.away());
    if (reply.ok) return said === "" ? null : said;
    const error = refusal(reply, said);
    const ended = reply.status === 401 && !options.quiet;
    const other = reply.status === 403 && method !== "GET" && !options.headers && /CSRF/.test(error.message);
    if ((ended || other) && !options.again) {
      const renewed = await link.renew().catch(() => false); // the refusal counts
      if (renewed && (ended || link.csrf !== csrf)) return await request(method, path, body, { ...options, again: true });
    }
    if (ended) link.expired();
    throw error;
  } finally {
    inFlight.delete(own);
    options.signal?.removeEventListener("abort", stop);
  }
}

/** @param {string} text @returns {any} */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** @param {Response} reply @param {any} said @returns {ApiError} */
function refusal(reply, said) {
  const known = said !== null && typeof said === "object";
  const wait = Number(reply.headers.get("Retry-After"));
  const message = known && typeof said.error === "string" ? said.error : `${reply.status} ${reply.statusText}`.trim();
  return new ApiError(reply.status, message, {
    field: known && typeof said.field === "string" ? said.field : undefined,
    retryAfter: Number.isFinite(wait) && wait > 0 ? wait : undefined,
  });
}

export const api = {
  /** @param {string} path @param {Options} [options] */
  get: (path, options) => request("GET", path, undefined, options),
  /** @param {string} path */
  head: (path) => request("HEAD", path),
  /** @param {string} path @param {unknown} [body] @param {Options} [options] */
  post: (path, body = {}, options) => request("POST", path, body, options),
  /** @param {string} path @param {unknown} body @param {Options} [options] */
  put: (path, body, options) => request("PUT", path, body, options),
  /** @param {string} path @param {Options} [options] */
  delete: (path, options) => request("DELETE", path, undefined, options),
};
