// What a user of the official Node SDK does, against the gateway at argv[2] with the model at argv[3].
// Prints one JSON object; the test compares it.
import OpenAI from "openai";

const [, , baseURL, model] = process.argv;
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const messages = [{ role: "user", content: "Hi" }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
  { type: "function", function: { name: "get_time" } },
];
const out = {};

const whole = await client.chat.completions.create({ model, messages });
out.whole = [whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage.total_tokens > 0];

const stream = await client.chat.completions.create({
  model,
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
let text = "";
let usage = 0;
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  usage += chunk.usage ? 1 : 0;
}
out.stream = [text, usage];

const helper = client.chat.completions.stream({ model, messages });
const final = await helper.finalChatCompletion();
out.helper = [final.choices[0].message.content, final.choices[0].finish_reason];

const asked = [{ role: "user", content: "both, please" }];
const calling = client.chat.completions.stream({ model, messages: asked, tools });
const said = (await calling.finalChatCompletion()).choices[0];
out.calls = said.message.tool_calls.map((call) => [call.function.name, typeof JSON.parse(call.function.arguments)]);
out.callsFinish = said.finish_reason;

const results = said.message.tool_calls.map((call) => ({
  role: "tool",
  tool_call_id: call.id,
  content: `result of ${call.function.name}`,
}));
const after = await client.chat.completions.create({ model, messages: [...asked, said.message, ...results], tools });
out.after = after.choices[0].message.content;

try {
  await client.chat.completions.create({ model: "nobody/nothing", messages });
} catch (error) {
  out.error = [error.constructor.name, error.status, error.code, error.param];
}
const models = [];
for await (const each of client.models.list()) models.push(each.id);
out.models = models.includes(model);
out.retrieved = (await client.models.retrieve(model)).id;

process.stdout.write(JSON.stringify(out));
