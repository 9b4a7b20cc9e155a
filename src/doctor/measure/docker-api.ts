/** dockerd by its HTTP interface, as far as measuring needs it. No client program, and no version: every daemon has these. */
import { type IncomingMessage, request } from "node:http";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { LamellaError, throwIfAborted } from "../../errors/lamella-error.ts";

export interface DockerRequest {
  readonly socket: string;
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly body?: Readable | Buffer | undefined;
  readonly contentType?: string;
  readonly signal?: AbortSignal | undefined;
}

/** Answers as soon as the headers are there. Errors: unavailable with what the daemon says, from status 400 on; canceled. */
export async function askDocker(asked: DockerRequest): Promise<IncomingMessage> {
  const { socket, method, path, body, contentType, signal } = asked;
  const headers = contentType === undefined ? {} : { "content-type": contentType };
  try {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = request(
        { socketPath: socket, method, path, headers, agent: false, ...(signal && { signal }) },
        resolve,
      );
      sent.on("error", reject);
      if (body === undefined || Buffer.isBuffer(body)) sent.end(body);
      else pipeline(body, sent).catch(reject);
    });
    if ((answer.statusCode ?? 500) < 400) return answer;
    const text = await textOf(answer);
    throw new LamellaError("unavailable", "DOCKER_REFUSED", `dockerd: ${messageOf(text)}`);
  } catch (error) {
    throwIfAborted(signal);
    throw error;
  }
}

/** The whole answer as JSON. */
export async function askDockerJson(asked: DockerRequest): Promise<unknown> {
  return JSON.parse(await textOf(await askDocker(asked)));
}

/**
 * Reads an answer that tells of progress, a JSON object a line, to its end. Errors: unavailable with the `error` in one
 * of them.
 */
export async function followDocker(asked: DockerRequest): Promise<void> {
  const answer = await askDocker(asked);
  try {
    const text = await textOf(answer);
    for (const line of text.split("\n").filter((one) => one.trim() !== "")) {
      const { error } = JSON.parse(line) as { error?: string };
      if (error !== undefined) throw new LamellaError("unavailable", "DOCKER_REFUSED", `dockerd: ${error}`);
    }
  } catch (error) {
    throwIfAborted(asked.signal);
    throw error;
  }
}

async function textOf(answer: Readable): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of answer as AsyncIterable<Buffer>) parts.push(part);
  return Buffer.concat(parts).toString("utf8");
}

function messageOf(text: string): string {
  try {
    return String((JSON.parse(text) as { message?: unknown }).message ?? text);
  } catch {
    return text.trim();
  }
}
