// What is in an image, with fetch, in Node (18 or newer) or, but for reading the file, in a browser:
// node predict.mjs cat.jpg [http://localhost:8000]
import { readFile } from "node:fs/promises";

const TRIES = 5;
const LONGEST_WAIT = 10; // seconds
const [path, url = "http://localhost:8000"] = process.argv.slice(2);
const key = process.env.KERNELSCOPE_API_KEY;

/** The reply to POST /predict; what is rejected because the service is busy is sent again after Retry-After. */
async function predict(image) {
  for (let tried = 1; ; tried += 1) {
    const reply = await fetch(`${url}/predict?top_k=1`, {
      method: "POST",
      body: image,
      headers: { "Content-Type": "application/octet-stream", ...(key && { Authorization: `Bearer ${key}` }) },
      signal: AbortSignal.timeout(30_000),
    });
    if (reply.ok) return reply.json();
    const wait = Number(reply.headers.get("Retry-After") ?? 1);
    if (reply.status !== 503 || tried === TRIES || !(wait <= LONGEST_WAIT)) {
      throw new Error((await reply.json()).error.message);
    }
    await new Promise((done) => setTimeout(done, wait * 1000));
  }
}

try {
  const answer = await predict(await readFile(path));
  console.log(`${answer.label} ${answer.probability.toFixed(3)}`);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
