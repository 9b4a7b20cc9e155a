/** Engines are stopped, started and asked. Undoing a stop is a start, and the other way round. */
import { join } from "node:path";
import { LamellaError } from "../../../errors/lamella-error.ts";
import { getJson } from "../../collect/unix-http.ts";
import { startEngine, stopEngine } from "../engine.ts";
import type { StartEngineStep, StepContext, StepKind, StopEngineStep, VerifyEngineStep } from "./step.ts";

/** Where a daemon writes to that had no file before: it outlives the cure's own directory. */
function outputOf({ directory }: StepContext): string {
  return join(directory, "../dockerd.log");
}

export const stopEngineKind: StepKind<StopEngineStep> = {
  describe: ({ engine }) =>
    engine.start.how === "service"
      ? `systemctl stop ${engine.start.units.join(" ")}`
      : `stop ${engine.name}: SIGTERM to the process, which is no service`,
  apply: ({ engine }, { host }) => stopEngine(host, engine),
  undo: async ({ engine }, context) => {
    // It may be about to end.
    if (!context.wasDone) await stopEngine(context.host, engine);
    await startEngine(context.host, engine, { fallbackOutput: outputOf(context), say: context.say });
    return undefined;
  },
};

export const startEngineKind: StepKind<StartEngineStep> = {
  describe: ({ engine }) =>
    engine.start.how === "service"
      ? `systemctl start ${engine.start.units.join(" ")}`
      : `start ${engine.name} with the arguments and the environment it had`,
  apply: ({ engine }, context) =>
    startEngine(context.host, engine, { fallbackOutput: outputOf(context), say: context.say }),
  undo: async ({ engine }, { host }) => {
    await stopEngine(host, engine);
    return undefined;
  },
};

export const verifyEngine: StepKind<VerifyEngineStep> = {
  describe: ({ driver, status, images }) => {
    const lines = [
      ...(driver === undefined ? [] : [`Storage Driver: ${driver}`]),
      ...status.map(([key, value]) => `${key}: ${value}`),
    ].map((line) => `\`${line}\``);
    const all = images.length === 0 ? "" : ` and all ${images.length} images are there`;
    return `see that docker info says ${lines.join(" and ")}${all}`;
  },
  apply: async ({ socket, driver, status, images }, { host, say }) => {
    const at = host.view.at(socket);
    const info = (await getJson(at, "/info")) as { Driver?: unknown; DriverStatus?: unknown };
    const lines = new Map((Array.isArray(info.DriverStatus) ? info.DriverStatus : []) as [string, string][]);
    const wrong = status.find(([key, value]) => lines.get(key) !== value);
    if (wrong !== undefined) throw notCured(`docker info says ${wrong[0]}: ${lines.get(wrong[0]) ?? "nothing"}`);
    if (driver !== undefined && info.Driver !== driver)
      throw notCured(`docker info says Storage Driver: ${info.Driver}`);
    const there = images.length === 0 ? new Set<string>() : await imageIds(at);
    const lost = images.filter((id) => !there.has(id));
    if (lost.length > 0) throw notCured(`images are missing: ${lost.slice(0, 3).join(", ")}`);
    for (const [key, value] of status) say(`docker info: ${key}: ${value}`);
    if (driver !== undefined) say(`docker info: Storage Driver: ${driver}`);
  },
  undo: async () => undefined,
};

/** IDs of the images that `docker images` lists. */
export async function imageIds(socket: string): Promise<Set<string>> {
  const list = (await getJson(socket, "/images/json")) as readonly { readonly Id: string }[];
  return new Set(list.map(({ Id }) => Id));
}

function notCured(why: string): LamellaError {
  return new LamellaError("failed_precondition", "NOT_CURED", `the cure does not help: ${why}`);
}
