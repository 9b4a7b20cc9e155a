/** What planners are given, and what several of them need. */
import { LamellaError } from "../../errors/lamella-error.ts";
import { getJson } from "../collect/unix-http.ts";
import type { DockerFacts, Facts } from "../facts.ts";
import type { Finding } from "../findings/finding.ts";
import { subjectOf } from "../findings/subject.ts";
import type { CureHost } from "./cure-host.ts";
import { type EngineHandle, findEngine } from "./engine.ts";
import type { CureChoices, Downtime, Plan } from "./plan.ts";
import type { Step } from "./steps/step.ts";

export interface PlanRequest {
  readonly facts: Facts;
  readonly finding: Finding;
  readonly host: CureHost;
  readonly choices: CureChoices;
}

/** Makes a plan; changes nothing. Errors: failed_precondition when it cannot be cured as things are. */
export type Planner = (request: PlanRequest) => Promise<Plan>;

/** The Docker a finding is about. */
export function dockerOf({ facts, finding }: PlanRequest): DockerFacts {
  const docker = facts.docker.find((one) => subjectOf(one) === finding.subject);
  if (docker === undefined)
    throw new LamellaError("internal", "NO_SUBJECT", `${finding.id} is about no Docker: ${finding.subject}`);
  return docker;
}

/** The daemons among these that run, with how to start them again. Errors: ENGINE_UNKNOWN. */
export async function enginesOf(host: CureHost, dockers: readonly DockerFacts[]): Promise<EngineHandle[]> {
  const engines: EngineHandle[] = [];
  for (const docker of dockers) if (docker.running) engines.push(await findEngine(host, docker));
  return engines;
}

/** Steps between stopping engines and starting them. */
export function whileStopped(engines: readonly EngineHandle[], steps: readonly Step[]): Step[] {
  return [
    ...engines.map((engine) => ({ kind: "stop-engine", engine }) as const),
    ...steps,
    ...engines.map((engine) => ({ kind: "start-engine", engine }) as const),
  ];
}

/** `seconds`: of the work while they are stopped. */
export function downtimeOf(engines: readonly EngineHandle[], seconds: number): { downtime?: Downtime } {
  if (engines.length === 0) return {};
  return {
    downtime: {
      // Stopping and starting takes a few seconds, and a container may take 10 to end.
      seconds: Math.ceil(5 + seconds + (engines.some(({ containers }) => containers.length > 0) ? 10 : 0)),
      engines: engines.map(({ name }) => name),
      containers: engines.flatMap(({ containers }) => containers.map(({ name }) => name)),
    },
  };
}

/** Names of all containers of a daemon that runs. */
export async function allContainers(host: CureHost, { socket }: DockerFacts): Promise<string[]> {
  if (socket === undefined) return [];
  const list = (await getJson(host.view.at(socket), "/containers/json?all=1")) as readonly { Names?: string[] }[];
  return list.map(({ Names = [] }) => (Names[0] ?? "").replace(/^\//, ""));
}

/** Directories above a path that are not there, the uppermost first. */
export function missingDirectories({ view }: CureHost, path: string): string[] {
  const missing: string[] = [];
  for (
    let at = path.slice(0, path.lastIndexOf("/"));
    at !== "" && !view.exists(at);
    at = at.slice(0, at.lastIndexOf("/"))
  )
    missing.unshift(at);
  return missing;
}

/** The step that makes a file say something else. */
export function fileStep(host: CureHost, path: string, after: string): Step {
  const before = host.view.text(path);
  return {
    kind: "write-file",
    path,
    ...(before !== undefined && { before }),
    after,
    madeDirectories: missingDirectories(host, path),
  };
}

export function cannot(code: string, message: string, hint?: string): LamellaError {
  return new LamellaError("failed_precondition", code, message, { hint });
}
