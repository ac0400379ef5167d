// Streams one chat through the official npm client.
// usage: node stream.mjs BASE_URL MODEL      prints {"text", "chunks", "finish"} as one JSON line
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0 });
const stream = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: "hello from npm" }],
  max_tokens: 12,
  stream: true,
});
let text = "";
let chunks = 0;
let finish = null;
for await (const chunk of stream) {
  chunks += 1;
  text += chunk.choices[0]?.delta?.content ?? "";
  finish = chunk.choices[0]?.finish_reason ?? finish;
}
console.log(JSON.stringify({ text, chunks, finish }));
