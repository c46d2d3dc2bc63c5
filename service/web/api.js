/* The service, as the playground calls it: the key, plain requests, and the stream of a chat turn. */

const KEY = "forebay.key";

/** What the service answered instead of what was asked for: a problem (RFC 9457). */
export class Refused extends Error {
  constructor(status, problem, retryAfter) {
    super(problem.detail ?? problem.message ?? `HTTP ${status}`); // the second as OpenAI spells it
    Object.assign(this, { status, problem, retryAfter });
  }
}

/** The key, kept for this tab only. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (options.body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, body.error ?? body, answer.headers.get("Retry-After"));
}

export const get = async (path) => (await ask(path)).json();
export const post = async (path, body) =>
  (await ask(path, { method: "POST", body: body && JSON.stringify(body) })).json();

/** Run one chat turn and yield its events, `{id, type, data}`, as they come. Aborting `signal` closes the connection. */
export async function* chat(body, { phases, signal }) {
  const headers = phases ? { "X-Forebay-Debug": "phases" } : {};
  const answer = await ask("/chat/stream", { method: "POST", body: JSON.stringify(body), headers, signal });
  yield* events(answer.body.pipeThrough(new TextDecoderStream()).getReader());
}

/** Server-sent events from a reader of text: EventSource itself can send neither a body nor a key. */
async function* events(reader) {
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (event) yield event;
    }
  }
}

function parse(block) {
  const fields = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  return fields.event ? { id: Number(fields.id), type: fields.event, data: JSON.parse(fields.data) } : null;
}
