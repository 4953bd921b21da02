// Calls of the API. A token lives in this page's memory and nowhere else.

let secret = "";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Uses `text` as the token of every call; empty: none. */
export function useToken(text) {
  secret = text;
}

export const hasToken = () => secret !== "";

async function fetched(path, options) {
  const headers = { ...(secret && { Authorization: `Bearer ${secret}` }), ...options.headers };
  const response = await fetch(`/api/v1/${path}`, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(8000) });
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, answer?.message ?? `the engine answers ${response.status}`);
  return { answer, headers: response.headers };
}

const call = async (path, options) => (await fetched(path, options)).answer;

/** A path with what is set of `query`. */
function asked(what, query) {
  const set = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  const text = new URLSearchParams(set).toString();
  return text ? `${what}?${text}` : what;
}

/** Asks; `query` holds only what is set. */
export const ask = (what, query = {}) => call(asked(what, query), { method: "GET" });

/** Asks for the first rows of a list: them, and how many there are in all. */
export async function askSome(what, query = {}) {
  const { answer, headers } = await fetched(asked(what, query), { method: "GET" });
  return { rows: answer, total: Number(headers.get("X-Total-Count") ?? answer.length) };
}

/** Changes something. */
export function put(what, body, query = {}) {
  const text = new URLSearchParams(query).toString();
  const headers = { "Content-Type": "application/json" };
  return call(text ? `${what}?${text}` : what, { method: "PUT", headers, body: JSON.stringify(body) });
}

/** Uses `text` as the token if it is one, and says whose it is; else goes on as before and throws. */
export async function signIn(text) {
  const before = secret;
  secret = text;
  try {
    return await ask("caller");
  } catch (error) {
    secret = before;
    throw error;
  }
}

/** One engine answers an object, several a list. */
export const list = (answer) => (Array.isArray(answer) ? answer : [answer]);
