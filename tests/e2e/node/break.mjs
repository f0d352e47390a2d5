// A stream that breaks off has to throw: prints the text before and the error's code.
import OpenAI from "openai";

const [, , baseURL, model] = process.argv;
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
let text = "";
try {
  const stream = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "Hi" }],
    stream: true,
  });
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  process.stdout.write(JSON.stringify(["no error", text]));
} catch (error) {
  process.stdout.write(JSON.stringify([error.constructor.name, error.code, text]));
}
