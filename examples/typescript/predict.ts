// What is in an image, with the types of kernelscope.d.ts.
import type { components, paths } from "./kernelscope.d.ts";

export type Prediction = components["schemas"]["Prediction"];
export type ErrorReply = components["schemas"]["ErrorReply"];
type Query = NonNullable<paths["/predict"]["post"]["parameters"]["query"]>;

export async function predict(url: string, image: Blob, query: Query = {}): Promise<Prediction> {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  const parameters = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  const reply = await fetch(`${url}/predict?${parameters}`, {
    method: "POST",
    body: image,
    headers: { "Content-Type": "application/octet-stream" },
  });
  if (!reply.ok) {
    const { error }: ErrorReply = await reply.json();
    throw new Error(`${error.code}: ${error.message}`);
  }
  return reply.json();
}
