/**
 * Images by way of an archive that the engine itself writes and reads, for drivers whose layers cannot be read from outside
 * (zfs, devicemapper).
 */
import { createReadStream, createWriteStream, rmSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { LamellaError } from "../../../errors/lamella-error.ts";
import type { ArchiveImagesStep, StepKind } from "./step.ts";

export const saveImages: StepKind<ArchiveImagesStep> = {
  describe: ({ names, archive }) => `docker save ${names.length} images to ${archive}`,
  apply: async ({ socket, names, archive }, { host }) => {
    const query = names.map((name) => `names=${encodeURIComponent(name)}`).join("&");
    const response = await call(host.view.at(socket), "GET", `/images/get?${query}`);
    await pipeline(response, createWriteStream(host.view.at(archive), { mode: 0o600, flush: true }));
  },
  undo: async ({ archive }, { host }) => {
    rmSync(host.view.at(archive), { force: true });
    return undefined;
  },
};

export const loadImages: StepKind<ArchiveImagesStep> = {
  describe: ({ archive }) => `docker load ${archive}, which is removed at the end (--finish)`,
  apply: async ({ socket, archive }, { host }) => {
    const body = createReadStream(host.view.at(archive));
    const response = await call(host.view.at(socket), "POST", "/images/load?quiet=1", body);
    const parts: Buffer[] = [];
    for await (const part of response) parts.push(part as Buffer);
    const error = /"error":\s*("(?:[^"\\]|\\.)*")/.exec(Buffer.concat(parts).toString("utf8"))?.[1];
    if (error !== undefined) throw failed("docker load", JSON.parse(error) as string);
  },
  undo: async () => undefined,
  finish: async ({ archive }, { host }) => {
    rmSync(host.view.at(archive), { force: true });
    return undefined;
  },
};

async function call(socketPath: string, method: string, path: string, body?: Readable): Promise<IncomingMessage> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const headers = { host: "localhost", ...(body !== undefined && { "content-type": "application/x-tar" }) };
    const sent = request({ socketPath, method, path, headers, agent: false }, resolve).on("error", reject);
    if (body === undefined) sent.end();
    else body.on("error", (error) => sent.destroy(error)).pipe(sent);
  });
  if (response.statusCode === 200) return response;
  response.resume();
  throw failed(`${method} ${path.replace(/\?.*/, "")}`, `status ${response.statusCode}`);
}

function failed(what: string, why: string): LamellaError {
  return new LamellaError("failed_precondition", "DOCKER_FAILED", `${what}: ${why}`);
}
