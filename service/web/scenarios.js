/* What to try first: a question that has an answer, and the ways in which a model lets one down. */

const CASE = "What is case C-1042 about?";

export const SCENARIOS = [
  { title: "A grounded answer", hint: "evidence first, then the answer", message: CASE, grounding: "required" },
  { title: "Nothing to cite", hint: "no evidence, no answer", message: "zyzzyva quokka", grounding: "required" },
  { title: "No first token", hint: "3\u00a0s, and the budget is used up", message: CASE, model: "sim:ttft_ms=60000" },
  { title: "A stall midway", hint: "silence from token 12 on", message: CASE, model: "sim:tokens=40,stall_at=12" },
  { title: "A failure midway", hint: "after the first token nothing is retried", message: CASE, model: "sim:tokens=40,fail_at=15" },
  { title: "Twice down, then up", hint: "retried within the budget", message: CASE, model: "sim:fail_times=2" },
  { title: "A tool call", hint: "and on with the answer", message: CASE, model: "sim:tool=policy_lookup" },
  { title: "An approval", hint: "a side effect waits for a human", message: CASE, model: "sim:tool=open_escalation_review" },
  { title: "A thousand tokens", hint: "press Stop or Cancel meanwhile", message: CASE, model: "sim:tokens=1000,interval_ms=15" },
];
