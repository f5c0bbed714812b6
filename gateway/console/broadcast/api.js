/** Sends requests to the API as the console's signed-in user, and turns refusals into errors. */

/** The gateway refused a request, or gave no answer (`status` 0). */
export class Refusal extends Error {
  /** @param {number} status @param {string} message  of the gateway */
  constructor(status, message) {
    super(message);
    this.name = "Refusal";
    this.status = status;
  }
}

let csrf = "";

/** @returns {Promise<boolean>} whether a user is signed in */
export async function isSignedIn() {
  const login = await ask("GET", "/login");
  csrf = login.csrf ?? "";
  return login.user !== null;
}

/**
 * @param {"GET" | "PUT" | "POST"} method
 * @param {string} path
 * @param {unknown} [body]  sent as JSON
 * @returns {Promise<any>}
 */
export async function ask(method, path, body) {
  /** @type {Record<string, string>} */
  const headers = method === "GET" ? {} : { "Content-Type": "application/json", "X-CSRF-Token": csrf };
  /** @type {Response} */
  let reply;
  try {
    reply = await fetch(path, { method, headers, cache: "no-store", body: body === undefined ? null : JSON.stringify(body) });
  } catch (error) {
    throw new Refusal(0, error instanceof Error ? error.message : String(error));
  }
  const said = await reply.json().catch(() => null); // a proxy's error page is not JSON
  if (!reply.ok) throw new Refusal(reply.status, said?.error ?? reply.statusText);
  return said;
}
