/* Calls that wait for a human's decision, of the whole tenant: for those who may decide, where the service has them. */
import { Refused, get, key, post } from "/web/api.js";
import { h } from "/web/dom.js";

const EVERY = 4000; // ms

export class Approvals {
  constructor(place) {
    this.place = place;
    this.timer = null;
  }

  /** Look again, now and from now on; ends by itself where there is nothing to look at. */
  async look() {
    clearTimeout(this.timer);
    if (!key.get()) return;
    try {
      this.show((await get("/tool-calls?status=awaiting_approval")).tool_calls ?? []);
    } catch (error) {
      this.show([]);
      if (error instanceof Refused) return; // not allowed, or not there
    }
    this.timer = setTimeout(() => (document.hidden ? this.lookWhenSeen() : this.look()), EVERY);
  }

  lookWhenSeen() {
    document.addEventListener("visibilitychange", () => this.look(), { once: true });
  }

  show(calls) {
    this.place.hidden = !calls.length;
    if (JSON.stringify(calls) === this.shown) return; // do not take a button from under the pointer
    this.shown = JSON.stringify(calls);
    const cards = calls.map((call) =>
      h("section.tool", {},
        h("header", {}, h("code", {}, call.tool), call.requested_by ? h("small", {}, `asked for by ${call.requested_by}`) : null),
        h("pre", {}, JSON.stringify(call.arguments, null, 2)),
        decision(call.call_id, call.arguments_digest, () => this.look()),
      ));
    this.place.replaceChildren(h("h2", {}, "Waiting for approval"), ...cards);
  }
}

/** Approve and Deny for a call; `digest` is what the approver has seen. */
function decision(id, digest, after) {
  const buttons = ["approve", "deny"].map((word) => {
    const button = h("button", { type: "button" }, word === "approve" ? "Approve" : "Deny");
    if (word === "approve") button.classList.add("primary");
    button.onclick = async () => {
      for (const other of buttons) other.disabled = true;
      try {
        await post(`/tool-calls/${encodeURIComponent(id)}/approval`, { decision: word, arguments_digest: digest });
      } catch (error) {
        row.append(h("span.chip.bad", {}, error.message));
      }
      after();
    };
    return button;
  });
  const row = h("div.decide", {}, ...buttons);
  return row;
}
