// What OpenAI's client for Node makes of the service: one scenario by name, its findings as JSON on the last line.
// Called by tests/http/test_openai_node.py: node completions.mjs BASE_URL KEY SCENARIO
import OpenAI from "openai";

const [baseURL, apiKey, scenario] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "one two three" }];
const { completions } = client.chat;

const scenarios = {
  async whole() {
    const answer = await completions.create({ model: "echo", messages });
    return { ...answer.choices[0], usage: answer.usage, model: answer.model };
  },

  async streamed() {
    const stream = await completions.create({
      model: "echo",
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    const deltas = [];
    let usage = null;
    for await (const chunk of stream) {
      if (chunk.choices.length) deltas.push(chunk.choices[0].delta.content ?? null);
      usage = chunk.usage ?? usage;
    }
    return { deltas, usage };
  },

  async helper() {
    const runner = completions.stream({ model: "echo", messages });
    let said = "";
    runner.on("content", (delta) => (said += delta));
    const final = await runner.finalChatCompletion();
    return { said, final: final.choices[0].message.content };
  },

  async tools() {
    const parameters = { type: "object", properties: { city: { type: "string" } } };
    const tools = [{ type: "function", function: { name: "weather", parameters } }];
    const answer = await completions.create({ model: "calls", messages, tools });
    return { reason: answer.choices[0].finish_reason, calls: answer.choices[0].message.tool_calls };
  },

  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return ids;
  },

  async leaving() {
    const stream = await completions.create({ model: "endless", messages, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0].delta.content === "3 ") break;
    }
    return "left";
  },

  async aborting() {
    const gone = new AbortController();
    process.stdin.once("end", () => gone.abort()).resume(); // the test says when, by closing it
    return failure(completions.create({ model: "no-headers", messages }, { signal: gone.signal }));
  },

  async errors() {
    const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
    const interrupted = async () => {
      for await (const _ of await completions.create({ model: "breaks", messages, stream: true }));
    };
    return {
      key: await failure(stranger.models.list()),
      model: await failure(completions.create({ model: "none", messages })),
      several: await failure(completions.create({ model: "echo", messages, n: 2 })),
      role: await failure(completions.create({ model: "echo", messages: [{ role: "boss", content: "x" }] })),
      down: await failure(completions.create({ model: "down", messages })),
      stream: await failure(interrupted()),
    };
  },
};

async function failure(asked) {
  try {
    await asked;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status ?? null, code: error.code ?? null };
  }
  throw new Error("it did not fail");
}

console.log(JSON.stringify(await scenarios[scenario]()));
