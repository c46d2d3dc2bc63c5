/* The phases of one turn on one time axis: a bar for what a phase took, a frame for what it might have taken. */
import { duration, h } from "/web/dom.js";

const SHORTEST = 250; // ms that the axis shows at least
const STEPS = [50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 60000, 300000]; // ms between two marks of the axis
const MARKS = 6; // at most
const TONES = {
  ok: "cool", skipped: "", degraded: "warn", rejected: "warn", abandoned: "warn", cancelled: "warn", timeout: "bad", error: "bad",
};

export class Waterfall {
  constructor(place) {
    this.place = place;
    this.rows = [];
    this.tokens = [];
    this.span = SHORTEST;
  }

  /** Begin a new turn. `now()` gives the milliseconds since it was sent. */
  begin(now) {
    this.now = now;
    this.running = true;
    this.rows = [];
    this.tokens = [];
    this.axis = h("div.phase.axis", {}, h("span"), h("div.track"), h("span"));
    this.place.replaceChildren();
    this.frame();
  }

  phase({ phase, state, budget_ms: budget, elapsed_ms: elapsed, outcome }) {
    if (state === "started") this.add(phase, budget);
    else this.end(phase, elapsed, outcome);
  }

  add(name, budget) {
    const row = { name, budget, start: this.now(), end: null, bar: h("i.bar"), frame: h("i.budget"), time: h("span.time") };
    row.track = h("div.track", {}, row.frame, row.bar);
    row.frame.hidden = budget === null;
    row.element = h("div.phase.live", { title: name }, h("span.name", {}, name), row.track, row.time);
    if (name === "stream.emit") row.element.classList.add("aside"); // it runs beside all the others
    if (name === "model.stream") row.track.append((row.canvas = h("canvas")));
    this.rows.push(row);
    this.place.append(row.element, this.axis);
    this.place.scrollTop = this.place.scrollHeight;
  }

  end(name, elapsed, outcome) {
    const row = this.rows.find((one) => one.name === name && one.end === null);
    if (!row) return;
    row.end = this.now();
    row.start = Math.max(0, Math.min(row.start, row.end - elapsed)); // several events may have come in one piece
    row.elapsed = elapsed;
    row.outcome = outcome;
    row.element.classList.remove("live");
    if (TONES[outcome]) row.element.classList.add(TONES[outcome]);
  }

  token() {
    this.tokens.push(this.now());
  }

  /** The turn is over; what is still open ended with it. `without` says why there may be no phases at all. */
  finish(without) {
    this.running = false;
    for (const row of this.rows.filter((one) => one.end === null)) {
      row.end = this.now();
      row.elapsed = row.end - row.start;
      row.element.classList.remove("live");
    }
    if (!this.rows.length) {
      this.place.replaceChildren(h("p.empty", {}, without));
    }
    this.draw(this.now());
  }

  frame() {
    if (!this.running) return;
    this.draw(this.now());
    requestAnimationFrame(() => this.frame());
  }

  draw(now) {
    const last = this.running ? now : Math.max(0, ...this.rows.map((row) => row.end));
    this.span = Math.max(SHORTEST, last * 1.02);
    for (const row of this.rows) this.placeRow(row, now);
    const step = STEPS.find((ms) => this.span / ms <= MARKS) ?? this.span;
    const marks = Math.floor(this.span / step) + 1;
    this.axis.children[1].replaceChildren(...[...Array(marks).keys()].map((n) => this.mark(n * step)));
  }

  placeRow(row, now) {
    const elapsed = row.elapsed ?? now - row.start;
    Object.assign(row.bar.style, { left: this.percent(row.start), width: this.percent(elapsed) });
    const fits = row.start + row.budget <= this.span;
    Object.assign(row.frame.style, { left: this.percent(row.start), width: this.percent(fits ? row.budget : this.span - row.start) });
    row.frame.classList.toggle("open", !fits);
    const budget = row.budget === null ? "" : ` / ${duration(row.budget)}`;
    const said = row.outcome && row.outcome !== "ok" ? `${row.outcome} ` : "";
    row.time.replaceChildren(said, h("b", {}, duration(elapsed)), said ? "" : budget);
    row.time.title = row.outcome ? `${row.outcome}, ${duration(elapsed)}${budget}` : "";
    if (row.canvas) this.drawTokens(row.canvas, row.start, row.end ?? now);
  }

  /** A tick for every token: a rhythm, and the place where it broke off. */
  drawTokens(canvas, start, end) {
    const { width, height } = canvas.getBoundingClientRect();
    const scale = window.devicePixelRatio;
    Object.assign(canvas, { width: width * scale, height: height * scale });
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(canvas).getPropertyValue("color");
    context.globalAlpha = 0.55;
    for (const at of this.tokens.filter((token) => token >= start && token <= end)) context.fillRect((at / this.span) * canvas.width, 0, scale, canvas.height);
  }

  percent(ms) {
    return `${Math.max(0, Math.min(100, (ms / this.span) * 100))}%`;
  }

  mark(ms) {
    const mark = h("span", {}, ms ? duration(ms) : "0");
    mark.style.left = this.percent(ms);
    return mark;
  }
}
