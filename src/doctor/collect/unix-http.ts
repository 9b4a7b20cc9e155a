/** Single requests over a unix socket. */
import { request } from "node:http";
import type { Readable } from "node:stream";

/** Longest wait for a whole answer. `GET /info` of a busy daemon takes a while. */
const timeoutMs = 10_000;
const maxAnswerBytes = 16 * 1024 * 1024;

/** The JSON of the answer. Errors: those of connecting; one that says the status, when it is not 200. */
export async function getJson(socketPath: string, path: string, signal?: AbortSignal): Promise<unknown> {
  return JSON.parse(await getText(socketPath, path, signal));
}

/** The text of the answer. Errors: as of {@link getJson}. */
export async function getText(socketPath: string, path: string, signal?: AbortSignal): Promise<string> {
  const limits = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal === undefined ? [] : [signal])]);
  const response = await new Promise<Readable & { statusCode?: number | undefined }>((resolve, reject) => {
    request({ socketPath, path, headers: { host: "localhost" }, agent: false, signal: limits }, resolve)
      .on("error", reject)
      .end();
  });
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    parts.push(part);
    size += part.length;
    if (size > maxAnswerBytes) throw new Error(`GET ${path}: the answer is too long`);
  }
  if (response.statusCode !== 200) throw new Error(`GET ${path}: status ${response.statusCode}`);
  return Buffer.concat(parts).toString("utf8");
}

/** A POST without a body. Errors: as getJson, for a status of 400 and more. */
export async function postNothing(socketPath: string, path: string): Promise<void> {
  const response = await new Promise<Readable & { statusCode?: number | undefined }>((resolve, reject) => {
    const options = { socketPath, path, method: "POST", headers: { host: "localhost" }, agent: false };
    request(options, resolve).on("error", reject).end();
  });
  response.resume();
  if ((response.statusCode ?? 500) >= 400) throw new Error(`POST ${path}: status ${response.statusCode}`);
}
