/**
 * Warnings about Dockerfiles that build but likely not as meant. One function a rule, each answering findings; codes are
 * stable and documented in docs/formats/dockerfile.md.
 */
import type { Dockerfile, FromInstruction, Instruction, Stage } from "./ast.ts";
import { variablesOf } from "./expand.ts";

export interface LintWarning {
  readonly code: string;
  readonly line: number;
  readonly message: string;
}

type Finding = readonly [line: number, message: string];
type Rule = (file: Dockerfile) => Iterable<Finding>;

/** All warnings, by line. */
export function lintDockerfile(file: Dockerfile): LintWarning[] {
  const warnings: LintWarning[] = [];
  for (const [code, rule] of Object.entries(rules)) {
    for (const [line, message] of rule(file)) warnings.push({ code, line, message });
  }
  return warnings.sort((a, b) => a.line - b.line);
}

/** Arguments that are declared without the file saying so. */
const predefinedArgs = new Set([
  ...["BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"],
  ...["TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE"],
  ...["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"].flatMap((name) => [name, name.toLowerCase()]),
  ...["SOURCE_DATE_EPOCH"],
]);

const rules: Readonly<Record<string, Rule>> = {
  *CONSISTENT_CASING(file) {
    const keywords = [...all(file)].map(({ keyword, startLine }) => ({ keyword, startLine }));
    const upper = keywords.filter(({ keyword }) => keyword === keyword.toUpperCase()).length;
    const wanted = upper * 2 >= keywords.length ? "upper" : "lower";
    for (const { keyword, startLine } of keywords) {
      const right = wanted === "upper" ? keyword.toUpperCase() : keyword.toLowerCase();
      if (keyword !== right) yield [startLine, `${keyword}: most keywords of this file are in ${wanted} case`];
    }
  },

  *FROM_AS_CASING(file) {
    for (const { from } of file.stages) {
      if (from.asKeyword === undefined || isUpper(from.asKeyword) === isUpper(from.keyword)) continue;
      yield [from.startLine, `${from.keyword} and ${from.asKeyword} differ in case`];
    }
  },

  *DUPLICATE_STAGE(file) {
    const lines = new Map<string, number>();
    for (const { name, from } of file.stages) {
      if (name === undefined) continue;
      const first = lines.get(name);
      if (first === undefined) lines.set(name, from.startLine);
      else
        yield [from.startLine, `stage ${name} is already named on line ${first}; the later one is meant from here on`];
    }
  },

  *RESERVED_STAGE(file) {
    for (const { name, from } of file.stages) {
      if (name === "scratch" || name === "context") yield [from.startLine, `${name} is reserved and names no stage`];
    }
  },

  *JSON_QUOTES(file) {
    for (const { startLine, ...instruction } of inStages(file)) {
      if (!("command" in instruction) || instruction.command.form !== "shell") continue;
      const { text } = instruction.command;
      if (/^\[\s*'[\s\S]*\]$/u.test(text) || /^\[\s*"[^"]*"[\s\S]*\]$/u.test(text)) {
        yield [
          startLine,
          `${instruction.keyword}: looks like a JSON array but is none (JSON has double quotes and no comma at the end), so the shell runs it`,
        ];
      }
    }
  },

  *SHELL_FORM_ENTRYPOINT(file) {
    for (const instruction of inStages(file)) {
      if (instruction.kind === "entrypoint" && instruction.command.form === "shell") {
        yield [
          instruction.startLine,
          "a shell runs this ENTRYPOINT: it gets no signals and ignores CMD; write a JSON array",
        ];
      }
    }
  },

  *OVERRIDDEN(file) {
    for (const { instructions } of file.stages) {
      const last = new Map<string, Instruction>();
      for (const instruction of instructions) {
        if (!["cmd", "entrypoint", "healthcheck"].includes(instruction.kind)) continue;
        const earlier = last.get(instruction.kind);
        if (earlier !== undefined)
          yield [earlier.startLine, `${earlier.keyword} is overridden on line ${instruction.startLine}`];
        last.set(instruction.kind, instruction);
      }
    }
  },

  *LEGACY_KEY_VALUE(file) {
    for (const instruction of inStages(file)) {
      if ((instruction.kind === "env" || instruction.kind === "label") && instruction.legacy) {
        const name = instruction.pairs[0]?.name;
        yield [instruction.startLine, `${instruction.keyword} ${name} value: write ${name}=value`];
      }
    }
  },

  *MAINTAINER(file) {
    for (const { kind, startLine } of inStages(file)) {
      if (kind === "maintainer")
        yield [startLine, "MAINTAINER is deprecated: write LABEL org.opencontainers.image.authors="];
    }
  },

  *RELATIVE_WORKDIR(file) {
    for (const { instructions } of file.stages) {
      let anchored = false;
      for (const instruction of instructions) {
        if (instruction.kind !== "workdir") continue;
        anchored ||= /^["']?[/$\\]|^["']?[A-Za-z]:/.test(instruction.path);
        if (!anchored)
          yield [instruction.startLine, `WORKDIR ${instruction.path} depends on the base image's directory`];
      }
    }
  },

  *EMPTY_CONTINUATION(file) {
    for (const line of file.emptyContinuationLines) yield [line, "a blank line inside an instruction that goes on"];
  },

  *SECRET_IN_IMAGE(file) {
    for (const instruction of all(file)) {
      for (const name of namesSet(instruction)) {
        if (/(?:^|_)(?:PASSWORD|PASSWD|SECRET|TOKEN|APIKEY|API_KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)$/i.test(name)) {
          yield [
            instruction.startLine,
            `${name}: values of ${instruction.keyword} stay readable in the image; use RUN --mount=type=secret`,
          ];
        }
      }
    }
  },

  *UNDEFINED_ARG_IN_FROM(file) {
    const declared = new Set(file.globalArgs.flatMap(namesSet));
    for (const { from } of file.stages) {
      for (const name of variablesIn([from.image, from.platform ?? ""], file)) {
        if (!declared.has(name) && !predefinedArgs.has(name)) {
          yield [from.startLine, `${name} is not declared by an ARG before the first FROM`];
        }
      }
    }
  },

  *UNDEFINED_VARIABLE(file) {
    const known = new Map<Stage, ReadonlySet<string> | undefined>();
    for (const stage of file.stages) {
      const parent = file.stages.slice(0, stage.index).findLast(({ name }) => name === stage.base.toLowerCase());
      // What an image from outside sets cannot be known here.
      const inherited = stage.base === "scratch" ? new Set<string>() : parent && known.get(parent);
      const declared = inherited && new Set(inherited);
      known.set(stage, declared);
      if (declared === undefined) continue;
      const environment = new Set(inherited);
      for (const instruction of stage.instructions) {
        for (const name of variablesIn(wordsOf(instruction), file)) {
          // An ARG predefined by the builder still has to be declared in the stage.
          if (!declared.has(name) && name !== "PATH") {
            yield [instruction.startLine, `${name} is set by no ARG or ENV before this line`];
          }
        }
        for (const name of namesSet(instruction)) {
          declared.add(name);
          if (instruction.kind === "env") environment.add(name);
        }
      }
      // ARGs end with their stage.
      known.set(stage, environment);
    }
  },
};

function* inStages(file: Dockerfile): Iterable<Instruction> {
  for (const { instructions } of file.stages) yield* instructions;
}

function* all(file: Dockerfile): Iterable<Instruction | FromInstruction> {
  yield* file.globalArgs;
  for (const { from, instructions } of file.stages) {
    yield from;
    yield* instructions;
  }
}

function namesSet(instruction: Instruction | FromInstruction): string[] {
  if (instruction.kind === "arg") return instruction.args.map(({ name }) => name);
  return instruction.kind === "env" ? instruction.pairs.map(({ name }) => name) : [];
}

/** The words in which Docker expands variables and a missing one is likely a mistake. */
function wordsOf(instruction: Instruction): readonly string[] {
  switch (instruction.kind) {
    case "copy":
    case "add":
      return [...instruction.sources, instruction.destination, instruction.chown ?? "", instruction.chmod ?? ""];
    case "env":
    case "label":
      return instruction.pairs.map(({ value }) => value);
    case "arg":
      return instruction.args.map(({ value }) => value ?? "");
    case "expose":
      return instruction.ports;
    case "volume":
      return instruction.paths;
    case "workdir":
      return [instruction.path];
    case "user":
      return [instruction.user];
    case "stopsignal":
      return [instruction.signal];
    default:
      return [];
  }
}

/** The variables without a default of their own in `words`; words that do not parse are the build's to report. */
function variablesIn(words: readonly string[], file: Dockerfile): Set<string> {
  const names = new Set<string>();
  for (const word of words) {
    try {
      for (const name of variablesOf(word, { escape: file.directives.escape })) {
        if (/^[\p{L}_]/u.test(name) && !new RegExp(`\\$\\{${name}:?[-+?]`, "u").test(word)) names.add(name);
      }
    } catch {
      // The instruction fails when it is reached, with this very error.
    }
  }
  return names;
}

function isUpper(text: string): boolean {
  return text === text.toUpperCase();
}
