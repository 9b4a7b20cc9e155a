/** dockerd by its HTTP interface, so that the start of a client program is not measured. */
import { request } from "node:http";

export interface ApiAnswer {
  readonly status: number;
  readonly body: Buffer;
}

/** One request; a status of 400 or more throws with what dockerd said. */
export function dockerApi(
  socketPath: string,
  method: "GET" | "POST" | "DELETE",
  path: string,
  body?: unknown,
): Promise<ApiAnswer> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers = text === undefined ? {} : { "Content-Type": "application/json", "Content-Length": text.length };
    const sent = request({ socketPath, method, path: `/v1.41${path}`, headers }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.on("error", reject);
      answer.on("end", () => {
        const whole = Buffer.concat(chunks);
        const status = answer.statusCode ?? 0;
        if (status >= 400) reject(new Error(`dockerd: ${method} ${path}: ${status} ${whole.toString("utf8").trim()}`));
        else resolve({ status, body: whole });
      });
    });
    sent.on("error", reject);
    sent.end(text);
  });
}

/** Creates a container of `image` that is never started; answers its ID. */
export async function createContainer(socketPath: string, image: string): Promise<string> {
  const { body } = await dockerApi(socketPath, "POST", "/containers/create", { Image: image, Cmd: ["true"] });
  return (JSON.parse(body.toString("utf8")) as { readonly Id: string }).Id;
}

export async function removeContainer(socketPath: string, id: string): Promise<void> {
  await dockerApi(socketPath, "DELETE", `/containers/${id}`);
}
