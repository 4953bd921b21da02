// Calls of the API. The token is kept in this page's memory and nowhere else.

let secret = "";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Sets the token of every call; an empty text removes it. */
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

/** The path with those parts of `query` that are set. */
function asked(what, query) {
  const set = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  const text = new URLSearchParams(set).toString();
  return text ? `${what}?${text}` : what;
}

/** Sends a GET request; parts of `query` that are not set are left out. */
export const ask = (what, query = {}) => call(asked(what, query), { method: "GET" });

/** Fetches the first rows of a list, and the number of all rows. */
export async function askSome(what, query = {}) {
  const { answer, headers } = await fetched(asked(what, query), { method: "GET" });
  return { rows: answer, total: Number(headers.get("X-Total-Count") ?? answer.length) };
}

/** Sends a request that changes something. */
function send(method, what, body, query) {
  const headers = { "Content-Type": "application/json" };
  return call(asked(what, query), { method, headers, body: JSON.stringify(body) });
}

export const put = (what, body, query = {}) => send("PUT", what, body, query);
export const post = (what, body, query = {}) => send("POST", what, body, query);

/** Signs in with a token and returns its owner; throws and keeps the old token if it is not valid. */
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

/** Always a list: one engine answers with an object, several with a list. */
export const list = (answer) => (Array.isArray(answer) ? answer : [answer]);
