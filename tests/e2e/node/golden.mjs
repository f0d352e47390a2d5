// What the Node SDK's helper puts together of one stream: text, finish reason, tool calls.
import OpenAI from "openai";

const [, , baseURL, model] = process.argv;
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const tools = ["f", "g"].map((name) => ({ type: "function", function: { name } }));
const stream = client.chat.completions.stream({ model, messages: [{ role: "user", content: "Hi" }], tools });
const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0];
const calls = (message.tool_calls ?? []).map((call) => [call.id, call.function.name, call.function.arguments]);
process.stdout.write(JSON.stringify([message.content, finish_reason, calls]));
