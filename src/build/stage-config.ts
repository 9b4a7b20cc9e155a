/**
 * How a stage's config changes with each instruction, and what Docker's classic builder writes into the history for it.
 * Pure: instructions come with their words expanded.
 */

import { type CommandForm, type Instruction, parsePorts } from "../dockerfile/index.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import type { Healthcheck, RunConfig } from "../oci/config.ts";
import { goDuration, goQuote, goQuoteList, goQuoteRune } from "./go-format.ts";
import { defaultPath } from "./runtime/executable.ts";

export const defaultShell: readonly string[] = ["/bin/sh", "-c"];

export interface StageConfig {
  readonly config: RunConfig;
  readonly author: string | undefined;
  /** A CMD of this stage: then ENTRYPOINT keeps it. */
  readonly cmdSet: boolean;
}

/** Where a stage starts: the base image's config without its triggers, with a PATH. */
export function stageConfigOf(base: RunConfig | undefined, author: string | undefined): StageConfig {
  const { OnBuild: _triggers, ...config } = base ?? {};
  const env = config.Env ?? [];
  const withPath = env.some((pair) => pair.startsWith("PATH=")) ? env : [...env, `PATH=${defaultPath}`];
  return { config: { ...config, Env: withPath }, author, cmdSet: false };
}

/** The instructions that only change the config. */
export type MetadataInstruction = Exclude<Instruction, { readonly kind: "run" | "copy" | "add" | "workdir" }>;

export interface MetadataStep {
  readonly next: StageConfig;
  /** `ENV a=b`: what the history says after `#(nop)  `. */
  readonly comment: string;
}

/** The shell of the shell forms. */
export function shellOf(config: RunConfig): readonly string[] {
  return config.Shell !== undefined && config.Shell.length > 0 ? config.Shell : defaultShell;
}

/** `created_by` of an instruction that runs nothing. */
export function nopHistory(config: RunConfig, comment: string): string {
  return `${shellOf(config).join(" ")} #(nop) ${comment}`;
}

/** The arguments of a CMD, ENTRYPOINT or RUN. */
export function commandOf(command: CommandForm, config: RunConfig): readonly string[] {
  return command.form === "exec" ? command.argv : [...shellOf(config), command.text];
}

export function environmentOf(config: RunConfig): readonly string[] {
  return config.Env ?? [];
}

/** The value of an environment variable of the config. */
export function environmentLookup(config: RunConfig, name: string): string | undefined {
  const prefix = `${name}=`;
  return environmentOf(config)
    .findLast((pair) => pair.startsWith(prefix))
    ?.slice(prefix.length);
}

/** The working directory after `WORKDIR path`: absolute; an absolute one as it is. Errors: invalid_argument for an empty one. */
export function workdirOf(config: RunConfig, path: string): string {
  if (path === "") throw new LamellaError("invalid_argument", "EMPTY_WORKDIR", "the working directory is empty");
  return path.startsWith("/") ? path : cleanPath(`${config.WorkingDir || "/"}/${path}`);
}

/** The destination of a COPY: absolute, a trailing slash kept; `.` and what ends in `/.` are directories. */
export function destinationOf(config: RunConfig, destination: string): string {
  const path = destination.startsWith("/") ? destination : `${config.WorkingDir || "/"}/${destination}`;
  const clean = cleanPath(path);
  const isDirectory = /(?:^|\/)\.{0,2}$/.test(destination);
  return isDirectory && clean !== "/" ? `${clean}/` : clean;
}

/** Lexically shortest form of an absolute path. */
export function cleanPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

/** Applies one metadata instruction. ARG changes nothing here; the caller declares it. */
export function applyMetadata(state: StageConfig, instruction: MetadataInstruction): MetadataStep {
  const { config } = state;
  const step = (changes: Partial<RunConfig>, comment: string, more: Partial<StageConfig> = {}): MetadataStep => ({
    next: { ...state, ...more, config: { ...config, ...changes } },
    comment: ` ${comment}`,
  });
  switch (instruction.kind) {
    case "env":
      return step(
        {
          Env: instruction.pairs.reduce((env, { name, value }) => setVariable(env, name, value), environmentOf(config)),
        },
        `ENV ${pairsText(instruction.pairs)}`,
      );
    case "label": {
      const labels = Object.fromEntries(instruction.pairs.map(({ name, value }) => [name, value]));
      return step({ Labels: { ...config.Labels, ...labels } }, `LABEL ${pairsText(instruction.pairs)}`);
    }
    case "arg": {
      const words = instruction.args.map(({ name, value }) => (value === undefined ? name : `${name}=${value}`));
      return step({}, `ARG ${words.join(" ")}`);
    }
    case "user":
      return step({ User: instruction.user }, `USER ${instruction.user}`);
    case "cmd": {
      const argv = commandOf(instruction.command, config);
      return step({ Cmd: argv }, `CMD ${goQuoteList(argv)}`, { cmdSet: true });
    }
    case "entrypoint": {
      const argv = commandOf(instruction.command, config);
      const { Cmd: _cmd, ...withoutCmd } = config;
      const kept = state.cmdSet ? config : withoutCmd;
      return {
        next: { ...state, config: { ...kept, Entrypoint: argv } },
        comment: ` ENTRYPOINT ${goQuoteList(argv)}`,
      };
    }
    case "shell":
      return step({ Shell: instruction.argv }, `SHELL [${instruction.argv.join(" ")}]`);
    case "expose": {
      const ports = parsePorts(instruction.ports);
      const all = [...new Set([...(config.ExposedPorts ?? []), ...ports])].sort();
      return step({ ExposedPorts: all }, `EXPOSE ${[...instruction.ports].sort().join(" ")}`);
    }
    case "volume": {
      const all = [...new Set([...(config.Volumes ?? []), ...instruction.paths])].sort();
      return step({ Volumes: all }, `VOLUME [${instruction.paths.join(" ")}]`);
    }
    case "stopsignal":
      return step({ StopSignal: instruction.signal }, `STOPSIGNAL ${instruction.signal}`);
    case "healthcheck": {
      const health = healthcheckOf(instruction);
      return step({ Healthcheck: health }, `HEALTHCHECK ${healthcheckText(health)}`);
    }
    case "onbuild":
      return step({ OnBuild: [...(config.OnBuild ?? []), instruction.trigger] }, `ONBUILD ${instruction.trigger}`);
    case "maintainer":
      return step({}, `MAINTAINER ${instruction.maintainer}`, { author: instruction.maintainer });
    default:
      return instruction satisfies never;
  }
}

function setVariable(env: readonly string[], name: string, value: string): readonly string[] {
  const at = env.findIndex((pair) => pair.startsWith(`${name}=`));
  if (at < 0) return [...env, `${name}=${value}`];
  return env.with(at, `${name}=${value}`);
}

function pairsText(pairs: readonly { readonly name: string; readonly value: string }[]): string {
  return pairs.map(({ name, value }) => `${name}=${value}`).join(" ");
}

function healthcheckOf(instruction: Extract<Instruction, { kind: "healthcheck" }>): Healthcheck {
  return {
    Test: instruction.test,
    ...(instruction.intervalNs ? { Interval: instruction.intervalNs } : {}),
    ...(instruction.timeoutNs ? { Timeout: instruction.timeoutNs } : {}),
    ...(instruction.startPeriodNs ? { StartPeriod: instruction.startPeriodNs } : {}),
    ...(instruction.startIntervalNs ? { StartInterval: instruction.startIntervalNs } : {}),
    ...(instruction.retries ? { Retries: instruction.retries } : {}),
  };
}

/** The struct as Docker prints it: `&{["CMD-SHELL" "curl -f ..."] "5m0s" "3s" "0s" '\x00'}`. */
function healthcheckText(health: Healthcheck): string {
  const durations = [health.Interval, health.Timeout, health.StartPeriod].map((ns) => goQuote(goDuration(ns ?? 0)));
  return `&{${goQuoteList(health.Test ?? [])} ${durations.join(" ")} ${goQuoteRune(health.Retries ?? 0)}}`;
}
