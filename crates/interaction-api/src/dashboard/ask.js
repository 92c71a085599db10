// Asking this server. Addresses are relative, so that the page works below any prefix; a browser that has signed in sends its
// cookie along.

export class Refused extends Error {
  constructor(status, message, reason) { super(message); this.status = status; this.reason = reason; }
}

// Ids, versions and what else has 64 bits: as JavaScript's numbers they would be other ones.
const LONG = /^(id|.*_id|version|revision|last_version|stored_revision|user|since_version)$/;
const LONGEST_EXACT = 15;
// A name with a whole number, any other string, any other number.
const TOKENS = /"((?:[^"\\]|\\.)*)"(\s*:\s*)(-?\d+)(?=\s*[,}\]])|"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/// JSON whose ids are strings, always. Strings are stepped over whole, so nothing inside of one is taken for a number.
export function parse(text) {
  const quoted = text.replace(TOKENS, (found, key, colon, number) => {
    if (number !== undefined) return LONG.test(key) || number.length > LONGEST_EXACT ? `"${key}"${colon}"${number}"` : found;
    return /^-?\d+$/.test(found) && found.length > LONGEST_EXACT ? `"${found}"` : found;
  });
  return JSON.parse(quoted);
}

/// Called whenever a token is needed that this browser does not have.
let strangers = () => {};
export function whenStrange(handler) { strangers = handler; }

/// What a path answers: JSON, or text. `path` has no slash in front.
export async function ask(path, options = {}) {
  const answer = await fetch(path, {
    ...options,
    headers: { accept: "application/json", ...options.headers },
    cache: "no-store",
    credentials: "same-origin",
    signal: AbortSignal.timeout(20000),
  });
  const text = await answer.text();
  const json = (answer.headers.get("content-type") || "").startsWith("application/json");
  const body = json ? parse(text) : text;
  // Health says 503 with a body that is worth showing.
  if (answer.ok || (path === "health" && json)) return body;
  if (answer.status === 401) strangers();
  throw new Refused(answer.status, (json && body.error) || `${path} answered ${answer.status}`, json && body.reason);
}

const changing = (method) => (path, body) => ask(path, {
  method,
  headers: { "content-type": "application/json", "x-requested-with": "dashboard" },
  body: body && JSON.stringify(body),
});

export const post = changing("POST");
export const remove = changing("DELETE");
