/* The playground: what is asked, and where each event of the answer goes. */
import { chat, get, key, post, Refused } from "/web/api.js";
import { Approvals } from "/web/approvals.js";
import { byId, duration, h } from "/web/dom.js";
import { Log } from "/web/log.js";
import { SCENARIOS } from "/web/scenarios.js";
import { Turn, traceLinks } from "/web/turn.js";
import { Waterfall } from "/web/waterfall.js";

const waterfall = new Waterfall(byId("waterfall"));
const log = new Log(byId("log"));
const approvals = new Approvals(byId("approvals"));
const session = (sessionStorage["forebay.session"] ??= `playground-${crypto.getRandomValues(new Uint32Array(2)).join("")}`);
let settings = { version: "", docs: false, trace_url: "" };
const transcript = byId("transcript");
let running = null; // the turn that is under way
let atEnd = true; // of the transcript

// --- a turn -----------------------------------------------------------------------------------------------------------

async function run(body, phases) {
  const turn = new Turn(body.message, { settings, curl: curl(body, phases) });
  const started = performance.now();
  const now = () => performance.now() - started;
  running = { turn, now, abort: new AbortController(), message: null, tokens: 0, first: null, last: null, gap: 0, silent: true };
  byId("welcome").hidden = true;
  byId("composer").before(byId("scenarios")); // from now on a line of them
  transcript.append(turn.element);
  atEnd = true;
  follow();
  waterfall.begin(now);
  log.begin();
  byId("trace").replaceChildren();
  showControls();
  const ticking = setInterval(showTiles, 100);
  try {
    for await (const event of chat(body, { phases, signal: running.abort.signal })) take(event);
    if (turn.element.classList.contains("running")) turn.fail("cut", "The stream ended without a terminal event.", {});
  } catch (error) {
    tellEnd(turn, error);
  }
  clearInterval(ticking);
  waterfall.finish(running.message ? "No phases came: switch them on below, with a key of the role developer." : "Refused: there was no stream.");
  showTiles();
  running = null;
  showControls();
  follow();
}

function take(event) {
  const at = running.now();
  log.add(at, event);
  running.turn.show(event);
  if (event.type === "phase") waterfall.phase(event.data);
  if (event.type === "token_delta") noteToken(at);
  if (event.type === "message_completed") running.silent = false;
  if (event.type === "message_start") noteStart(event.data);
  if (event.type === "tool_call_requested") approvals.look();
  follow();
}

function noteStart({ message_id: message, trace_id: trace }) {
  running.message = message;
  byId("trace").replaceChildren(...traceLinks(trace, settings));
  showControls();
}

function noteToken(at) {
  waterfall.token();
  running.first ??= at;
  if (running.last !== null) running.gap = Math.max(running.gap, at - running.last);
  running.last = at;
  running.tokens += 1;
}

function tellEnd(turn, error) {
  if (error.name === "AbortError") {
    log.note(running.now(), "(stopped)", "the browser closed the connection");
    turn.left();
  } else if (error instanceof Refused) {
    const { code, trace_id: trace } = error.problem;
    log.note(running.now(), `HTTP ${error.status}`, JSON.stringify(error.problem));
    turn.fail(code ?? `HTTP ${error.status}`, error.message, { status: error.status, "retry-after": error.retryAfter, trace });
    if (error.status === 401) wantKey();
  } else {
    turn.fail("unreachable", "The connection to the service broke.", {});
  }
}

function curl(body, phases) {
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  return [
    `curl -N ${location.origin}/chat/stream -H "Authorization: Bearer $FOREBAY_KEY"`,
    ...(phases ? ["-H 'X-Forebay-Debug: phases'"] : []),
    `-H 'Content-Type: application/json' -d '${quoted}'`,
  ].join(" \\\n  ");
}

// --- what is shown of it ----------------------------------------------------------------------------------------------

function showTiles() {
  const { now, first, tokens, last, silent } = running;
  const gap = Math.max(running.gap, silent ? now() - last : 0); // the silence that lasts counts too
  byId("tile-first").textContent = first === null ? "–" : duration(first);
  byId("tile-gap").textContent = tokens ? duration(gap) : "–";
  byId("tile-whole").textContent = duration(now());
  const rate = tokens > 1 ? ` ${Math.round(((tokens - 1) / Math.max(1, last - first)) * 1000)}/s` : "";
  byId("tile-tokens").replaceChildren(tokens ? String(tokens) : "–", h("small", {}, rate));
}

function showControls() {
  byId("send").hidden = running !== null;
  byId("stop").hidden = running === null;
  byId("cancel").hidden = !running?.message;
}

/** Keep the end in sight, unless somebody has scrolled away from it. */
function follow() {
  if (atEnd) transcript.scrollTop = transcript.scrollHeight;
}

// --- the key, and what it opens ---------------------------------------------------------------------------------------

async function tryKey() {
  const state = byId("key-state");
  byId("key-form").classList.remove("wanted");
  state.className = "";
  state.textContent = "";
  if (!key.get()) return;
  try {
    const { data } = await get("/v1/models");
    byId("models").replaceChildren(...data.map(({ id }) => h("option", { value: id })));
    for (const [index, { model }] of SCENARIOS.entries()) {
      byId("scenarios").children[index].hidden = Boolean(model) && !data.some(({ id }) => id === "sim");
    }
    state.className = "good";
    state.textContent = "accepted";
    byId("message").focus();
    approvals.look();
  } catch (error) {
    state.className = "bad";
    state.textContent = error.message;
  }
}

function wantKey() {
  byId("key-form").classList.add("wanted");
  byId("key").focus();
}

// --- wiring -----------------------------------------------------------------------------------------------------------

function submit() {
  const message = byId("message").value.trim();
  if (!message || running) return;
  const body = { session_id: session, message };
  if (byId("model").value.trim()) body.model = byId("model").value.trim();
  if (byId("grounding").value) body.grounding = byId("grounding").value;
  byId("message").value = "";
  run(body, byId("phases").checked);
}

transcript.onscroll = () => { atEnd = transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < 80; };
new ResizeObserver(follow).observe(transcript); // approvals take some of its room
byId("composer").onsubmit = (event) => { event.preventDefault(); submit(); };
byId("message").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
};
byId("stop").onclick = () => running?.abort.abort();
byId("cancel").onclick = () => post(`/messages/${running.message}/cancel`).catch(() => {}); // it may have ended just now
byId("key-form").onsubmit = (event) => event.preventDefault();
byId("key").onchange = () => { key.set(byId("key").value.trim()); tryKey(); };
byId("scenarios").append(...SCENARIOS.map((scenario) => {
  const button = h("button", { type: "button", title: scenario.hint }, h("b", {}, scenario.title), h("span", {}, scenario.hint));
  button.onclick = () => {
    byId("message").value = scenario.message;
    byId("model").value = scenario.model ?? "";
    byId("grounding").value = scenario.grounding ?? "";
    submit();
  };
  return h("li", {}, button);
}));

byId("key").value = key.get();
settings = await get("/web/settings.json");
byId("version").textContent = settings.version;
byId("docs-link").hidden = !settings.docs;
if (key.get()) tryKey();
else wantKey();
