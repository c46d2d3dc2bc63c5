/* Every event of a turn as it came; tokens in a row are one line. */
import { duration, h } from "/web/dom.js";

const TONES = {
  message_start: "cool", message_completed: "good", warning: "warn", error: "bad", tool_call_requested: "cool",
  tool_call_started: "cool", tool_call_completed: "cool",
};
const MOST = 600; // lines that are kept

export class Log {
  constructor(place) {
    this.place = place;
  }

  begin() {
    this.place.replaceChildren();
    this.tokens = null;
  }

  add(at, { type, data }) {
    if (type === "token_delta") {
      this.token(at, data.text);
      return;
    }
    this.tokens = null;
    const line = this.line(at, type, summary(type, data), h("pre", {}, JSON.stringify(data, null, 2)));
    line.classList.toggle("phase-event", type === "phase");
  }

  /** Something that the browser knows and the stream does not say. */
  note(at, type, text) {
    this.tokens = null;
    this.line(at, type, text, h("pre", {}, text)).classList.add("bad");
  }

  token(at, text) {
    if (!this.tokens) {
      const detail = h("pre");
      const line = this.line(at, "token_delta", "", detail);
      this.tokens = { count: 0, text: "", detail, data: line.querySelector(".data"), type: line.querySelector(".type") };
    }
    const { detail, data, type } = this.tokens;
    this.tokens.text += text;
    this.tokens.count += 1;
    type.textContent = `token_delta × ${this.tokens.count}`;
    data.textContent = this.tokens.text.slice(0, 120);
    detail.textContent = this.tokens.text;
  }

  line(at, type, text, detail) {
    const following = this.place.scrollTop + this.place.clientHeight > this.place.scrollHeight - 30;
    const summary = h("summary", {}, h("time", {}, `+${duration(at)}`), h("span.type", {}, type), h("span.data", {}, text));
    const line = h("li", {}, h("details", {}, summary, detail));
    if (TONES[type]) line.classList.add(TONES[type]);
    this.place.append(line);
    if (this.place.childElementCount > MOST) this.place.firstElementChild.remove();
    if (following) this.place.scrollTop = this.place.scrollHeight;
    return line;
  }
}

function summary(type, data) {
  if (type !== "phase") return JSON.stringify(data);
  if (data.state === "started") return data.phase;
  return `${data.phase}  ${data.outcome}, ${duration(data.elapsed_ms)}`;
}
