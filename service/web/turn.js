/* One turn in the transcript: the question, the evidence, the answer as it grows, its tools, how it ended. */
import { copy, duration, h } from "/web/dom.js";

const STATUS_TONES = { completed: "good", denied: "warn", failed: "bad", timed_out: "bad", indeterminate: "warn", awaiting_approval: "warn" };

export class Turn {
  /** `settings`: what the service says of itself; `curl`: the request as a command line. */
  constructor(question, { settings, curl }) {
    this.settings = settings;
    this.curl = curl;
    this.tools = new Map();
    this.documents = h("ul.documents", { hidden: true });
    this.body = h("div.body");
    this.about = h("footer.about");
    this.element = h("article.turn.running", {}, h("div.question", {}, question), this.documents, this.body, this.about);
    this.text = null;
  }

  show({ type, data }) {
    this[type]?.(data); // an event that this page does not know is passed over
  }

  message_start({ trace_id: trace, model }) {
    this.trace = trace;
    this.model = model;
  }

  retrieval_completed({ documents }) {
    this.found = documents.map((document, index) => {
      const label = h("li", { title: `${document.id}, score ${document.score}` }, h("code", {}, `[${index + 1}] `), document.title);
      label.dataset.id = document.id;
      return label;
    });
    this.documents.replaceChildren(...this.found);
    this.documents.hidden = !documents.length;
  }

  token_delta({ text }) {
    if (!this.text) this.body.append((this.text = h("div.answer")));
    this.text.append(text);
  }

  warning({ code, message }) {
    this.body.append(note("warn", code, message));
  }

  tool_call_requested(call) {
    const card = h("section.tool");
    this.tools.set(call.call_id, { call, card });
    this.text = null; // what the model says next stands below
    this.body.append(card);
    this.tell(call.call_id, call.status);
  }

  tool_call_started({ call_id: id }) {
    this.tell(id, "running");
  }

  tool_call_completed({ call_id: id, status, duration_ms: took, replayed, error_code: code }) {
    this.tell(id, status, [duration(took), replayed && "replayed", code].filter(Boolean).join(", "));
  }

  tell(id, status, more = "") {
    const known = this.tools.get(id);
    if (!known) return;
    const { call, card } = known;
    const chip = h(`span.chip.${STATUS_TONES[status] ?? "cool"}`, {}, status);
    card.replaceChildren(
      h("header", {}, h("code", {}, call.tool), chip, h("small", {}, more)),
      h("pre", {}, JSON.stringify(call.arguments, null, 2)),
    );
  }

  error({ code, message, phase, retryable, trace_id: trace }) {
    this.fail(code, message, { phase, retryable, trace });
  }

  message_completed({ finish_reason: reason, usage, citations, duration_ms: took }) {
    for (const label of this.found ?? []) label.classList.toggle("cited", citations.includes(label.dataset.id));
    this.end([
      h("span.chip.good", {}, "completed"),
      h("span", {}, `${this.model}: ${reason}, ${usage.prompt_tokens} + ${usage.generated_tokens} tokens, ${duration(took)}`),
      citations.length ? h("span", {}, `${citations.length} cited`) : null,
    ]);
  }

  /** The turn did not complete: `facts` that are undefined or null are left out. */
  fail(code, message, facts) {
    this.trace ??= facts.trace;
    const shown = Object.entries(facts).filter(([name, value]) => name !== "trace" && value !== undefined && value !== null);
    const list = h("dl", {}, ...shown.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));
    this.body.append(note("bad", code, message, shown.length ? list : null));
    this.end([]);
  }

  /** The browser closed the connection. */
  left() {
    this.end([h("span.chip.warn", {}, "connection closed"), h("span", {}, "the service stops the model and keeps no answer")]);
  }

  end(facts) {
    this.element.classList.remove("running");
    const again = h("button.bare", { type: "button" }, "copy as curl");
    again.onclick = () => copy(again, this.curl);
    this.about.replaceChildren(...facts.filter(Boolean), ...traceLinks(this.trace, this.settings), again);
  }
}

export function traceLinks(trace, settings) {
  if (!trace) return [];
  if (settings.trace_url) {
    const href = settings.trace_url.replace("{trace_id}", trace);
    return [h("a", { href, target: "_blank", rel: "noopener" }, "open the trace")];
  }
  const button = h("button.bare", { type: "button", title: "Copy the trace id" }, `trace ${trace.slice(0, 8)}…`);
  button.onclick = () => copy(button, trace);
  return [button];
}

function note(tone, code, message, more = null) {
  return h(`div.note.${tone}`, {}, h("b", {}, code), ` ${message}`, more);
}
