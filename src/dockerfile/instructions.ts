/** From a logical line to its instruction: one parser a keyword, each checking flags and arguments as Docker does. */
import type {
  CommandForm,
  FromInstruction,
  HealthcheckInstruction,
  Instruction,
  InstructionBase,
  KeyValue,
} from "./ast.ts";
import { DockerfileError, didYouMean } from "./dockerfile-error.ts";
import { durationNs } from "./duration.ts";
import { heredocOpening, type LogicalLine, splitKeyword } from "./lines.ts";
import { type Flag, jsonStrings, splitFlags, splitWords } from "./words.ts";

export interface InstructionContext {
  readonly escape: "\\" | "`";
  readonly fileName?: string | undefined;
}

/** One line being read: its words, its flags, and the errors that name its place. */
class Source {
  readonly line: LogicalLine;
  readonly keyword: string;
  readonly escape: string;
  readonly base: InstructionBase;
  /** What follows keyword and flags. */
  readonly rest: string;
  readonly #flags = new Map<string, Flag[]>();
  readonly #context: InstructionContext;

  constructor(line: LogicalLine, context: InstructionContext) {
    this.line = line;
    this.keyword = line.keyword.toUpperCase();
    this.escape = context.escape;
    this.#context = context;
    const { keyword, original, startLine, endLine } = line;
    this.base = { keyword, original, startLine, endLine };
    const { flags, rest } = splitFlags(line.rest, context.escape);
    this.rest = rest;
    const known = knownFlags[this.keyword] ?? [];
    for (const flag of flags) {
      if (!known.includes(flag.name)) {
        throw this.error("DOCKERFILE_FLAG", `${this.keyword} has no flag --${flag.name}`, didYouMean(flag.name, known));
      }
      this.#flags.set(flag.name, [...(this.#flags.get(flag.name) ?? []), flag]);
    }
  }

  error(code: string, problem: string, hint?: string): DockerfileError {
    const { fileName } = this.#context;
    return new DockerfileError(code, problem, this.line, { hint, ...(fileName === undefined ? {} : { fileName }) });
  }

  syntax(problem: string, hint?: string): DockerfileError {
    return this.error("DOCKERFILE_SYNTAX", problem, hint);
  }

  /** The rest, which must not be empty. */
  text(): string {
    if (this.rest === "") throw this.syntax(`${this.keyword} requires at least one argument`);
    return this.rest;
  }

  /** The rest split at white space, quotes being ordinary characters. */
  plainWords(): string[] {
    return this.text().split(/\s+/);
  }

  /** The values of a flag that may be repeated. */
  flags(name: string): string[] {
    return (this.#flags.get(name) ?? []).map(({ value }) => {
      if (!value) throw this.error("DOCKERFILE_FLAG", `--${name} needs a value`);
      return value;
    });
  }

  flag(name: string): string | undefined {
    const values = this.flags(name);
    if (values.length > 1) throw this.error("DOCKERFILE_FLAG", `--${name} is given twice`);
    return values[0];
  }

  /** Members `{name: value}` for those of the flags that are given. */
  optional<K extends string>(...names: readonly K[]): { [N in K]?: string } {
    const members: { [N in K]?: string } = {};
    for (const name of names) {
      const value = this.flag(name);
      if (value !== undefined) members[name] = value;
    }
    return members;
  }

  switch(name: string): boolean | undefined {
    const given = this.#flags.get(name) ?? [];
    if (given.length > 1) throw this.error("DOCKERFILE_FLAG", `--${name} is given twice`);
    const [flag] = given;
    if (flag === undefined) return undefined;
    if (flag.value === undefined || flag.value === "true") return true;
    if (flag.value === "false") return false;
    throw this.error("DOCKERFILE_FLAG", `--${name} is true or false, not ${JSON.stringify(flag.value)}`);
  }

  /** The rest as a JSON array of strings; undefined when it is none. */
  json(): readonly string[] | undefined {
    const strings = jsonStrings(this.rest);
    if (strings === "not-strings") throw this.syntax(`the JSON array of ${this.keyword} must hold strings only`);
    return strings;
  }

  command(): CommandForm {
    const argv = this.json();
    return argv === undefined ? { form: "shell", text: this.text() } : { form: "exec", argv };
  }
}

const knownFlags: Readonly<Record<string, readonly string[]>> = {
  FROM: ["platform"],
  RUN: ["mount", "network", "security"],
  COPY: ["from", "chown", "chmod", "link", "parents", "exclude"],
  ADD: ["chown", "chmod", "link", "checksum", "keep-git-dir", "unpack", "exclude"],
  HEALTHCHECK: ["interval", "timeout", "start-period", "start-interval", "retries"],
};

type Parse = (source: Source, context: InstructionContext) => Instruction;

const parsers: Readonly<Record<string, Parse>> = {
  RUN(source) {
    const command = source.command();
    if (command.form === "exec" && command.argv.length === 0) throw source.syntax("RUN requires at least one argument");
    const { heredocs } = source.line;
    const mounts = source.flags("mount");
    return { kind: "run", ...source.base, command, heredocs, mounts, ...source.optional("network", "security") };
  },
  COPY(source) {
    return {
      kind: "copy",
      ...source.base,
      ...transfer(source),
      ...source.optional("from", "chown", "chmod"),
      parents: source.switch("parents") ?? false,
    };
  },
  ADD(source) {
    const unpack = source.switch("unpack");
    return {
      kind: "add",
      ...source.base,
      ...transfer(source),
      ...source.optional("chown", "chmod", "checksum"),
      keepGitDir: source.switch("keep-git-dir") ?? false,
      ...(unpack === undefined ? {} : { unpack }),
    };
  },
  ENV(source) {
    return { kind: "env", ...source.base, ...keyValues(source) };
  },
  LABEL(source) {
    return { kind: "label", ...source.base, ...keyValues(source) };
  },
  ARG(source) {
    const args = splitWords(source.text(), source.escape).map((word) => {
      const equals = word.indexOf("=");
      const name = equals < 0 ? word : word.slice(0, equals);
      if (name === "") throw source.syntax("ARG names can not be blank");
      return equals < 0 ? { name } : { name, value: word.slice(equals + 1) };
    });
    return { kind: "arg", ...source.base, args };
  },
  WORKDIR(source) {
    return { kind: "workdir", ...source.base, path: source.text() };
  },
  USER(source) {
    return { kind: "user", ...source.base, user: source.text() };
  },
  CMD(source) {
    return { kind: "cmd", ...source.base, command: source.command() };
  },
  ENTRYPOINT(source) {
    return { kind: "entrypoint", ...source.base, command: source.command() };
  },
  SHELL(source) {
    const argv = source.json();
    if (argv === undefined || argv.length === 0) {
      throw source.syntax("SHELL requires a JSON array", 'for example SHELL ["/bin/bash", "-c"]');
    }
    return { kind: "shell", ...source.base, argv };
  },
  EXPOSE(source) {
    return { kind: "expose", ...source.base, ports: source.plainWords() };
  },
  VOLUME(source) {
    const paths = source.json() ?? source.plainWords();
    if (paths.length === 0) throw source.syntax("VOLUME requires at least one argument");
    if (paths.some((path) => path.trim() === "")) throw source.syntax("VOLUME specified can not be an empty string");
    return { kind: "volume", ...source.base, paths };
  },
  STOPSIGNAL(source) {
    const [signal = "", ...more] = source.plainWords();
    if (more.length > 0) throw source.syntax("STOPSIGNAL requires exactly one argument");
    return { kind: "stopsignal", ...source.base, signal };
  },
  HEALTHCHECK: healthcheck,
  ONBUILD(source, context) {
    const trigger = source.line.original.trim().slice(source.line.keyword.length).trim();
    const [written, rest] = splitKeyword(source.text());
    const keyword = written.toUpperCase();
    if (keyword === "ONBUILD" || keyword === "FROM" || keyword === "MAINTAINER") {
      throw source.syntax(`${keyword} is not allowed as an ONBUILD trigger`);
    }
    // The trigger must be an instruction, though it runs in another build.
    parseInstructionLine({ ...source.line, keyword: written, rest, original: trigger }, context);
    const bodies = source.line.heredocs.map(({ raw, name }) => `\n${raw}${name}`).join("");
    return { kind: "onbuild", ...source.base, trigger: trigger + bodies };
  },
  MAINTAINER(source) {
    return { kind: "maintainer", ...source.base, maintainer: source.text() };
  },
};

const keywords = ["FROM", ...Object.keys(parsers)];

/** Parses any instruction but FROM; throws {@link DockerfileError}. */
export function parseInstructionLine(line: LogicalLine, context: InstructionContext): Instruction {
  const keyword = line.keyword.toUpperCase();
  const parse = Object.hasOwn(parsers, keyword) ? parsers[keyword] : undefined;
  if (parse !== undefined) return parse(new Source(line, context), context);
  const { fileName } = context;
  throw new DockerfileError(
    "DOCKERFILE_UNKNOWN_INSTRUCTION",
    `unknown instruction: ${line.keyword.slice(0, 100)}`,
    line,
    { hint: didYouMean(keyword, keywords), ...(fileName === undefined ? {} : { fileName }) },
  );
}

/** Parses `FROM [--platform=P] IMAGE [AS NAME]`; throws {@link DockerfileError}. */
export function parseFromLine(line: LogicalLine, context: InstructionContext): FromInstruction {
  const source = new Source(line, context);
  const [image = "", as, nameAsWritten, ...more] = source.plainWords();
  const base = { kind: "from", ...source.base, image, ...source.optional("platform") } as const;
  if (as === undefined) return base;
  if (as.toUpperCase() !== "AS" || nameAsWritten === undefined || more.length > 0) {
    throw source.syntax("FROM requires either one or three arguments", "FROM IMAGE [AS NAME]");
  }
  const name = nameAsWritten.toLowerCase();
  if (!/^[a-z][a-z0-9._-]*$/.test(name)) {
    throw source.syntax(
      `invalid name for build stage: ${JSON.stringify(nameAsWritten)}`,
      "a stage's name starts with a letter and holds letters, digits, '_', '.', '-'",
    );
  }
  return { ...base, name, nameAsWritten, asKeyword: as };
}

function transfer(source: Source) {
  const words = source.json() ?? source.plainWords();
  const destination = words.at(-1);
  if (destination === undefined || words.length < 2) {
    throw source.syntax(`${source.keyword} requires at least two arguments, a source and a destination`);
  }
  const { heredocs } = source.line;
  if (heredocOpening(destination) !== undefined && heredocs.length > 0) {
    throw source.syntax(`${source.keyword} cannot have a heredoc as its destination`);
  }
  // Here-documents are sources already.
  const sources = words.slice(0, -1).filter((word) => heredocs.length === 0 || heredocOpening(word) === undefined);
  return {
    sources,
    destination,
    heredocs,
    link: source.switch("link") ?? false,
    exclude: source.flags("exclude"),
  };
}

function keyValues(source: Source): { pairs: KeyValue[]; legacy: boolean } {
  const words = splitWords(source.text(), source.escape);
  const { keyword } = source;
  if (!words[0]?.includes("=")) {
    const [, name, value] = /^(\S+)\s+([\s\S]+)$/.exec(source.rest) ?? [];
    if (name === undefined || value === undefined) throw source.syntax(`${keyword} must have two arguments`);
    return { pairs: [{ name, value }], legacy: true };
  }
  const pairs = words.map((word) => {
    const equals = word.indexOf("=");
    if (equals < 0) {
      throw source.syntax(`can't find = in ${JSON.stringify(word)}`, `write ${keyword} name=value, quoting spaces`);
    }
    if (equals === 0) throw source.syntax(`${keyword} names can not be blank`);
    return { name: word.slice(0, equals), value: word.slice(equals + 1) };
  });
  return { pairs, legacy: false };
}

function healthcheck(source: Source): HealthcheckInstruction {
  const [typeWritten, rest] = splitKeyword(source.text());
  const type = typeWritten.toUpperCase();
  const base = { kind: "healthcheck", ...source.base } as const;
  if (type === "NONE") {
    if (rest !== "") throw source.syntax("HEALTHCHECK NONE takes no arguments");
    return { ...base, test: ["NONE"] };
  }
  if (type !== "CMD") {
    throw source.syntax(
      `unknown type ${JSON.stringify(typeWritten)} in HEALTHCHECK`,
      "write HEALTHCHECK CMD … or NONE",
    );
  }
  const argv = jsonStrings(rest);
  if (argv === "not-strings") throw source.syntax("the JSON array of HEALTHCHECK must hold strings only");
  if (rest === "" || argv?.length === 0) throw source.syntax("missing command after HEALTHCHECK CMD");
  const durations: { -readonly [K in (typeof durationFlags)[number][1]]?: number } = {};
  for (const [flag, member] of durationFlags) {
    const text = source.flag(flag);
    if (text === undefined) continue;
    const ns = durationNs(text);
    if (ns === undefined || (ns > 0 && ns < 1e6)) {
      throw source.error("DOCKERFILE_FLAG", `--${flag}=${text} is no duration of at least 1ms`, "for example 1m30s");
    }
    durations[member] = ns;
  }
  const retries = source.flag("retries");
  if (retries !== undefined && !/^[0-9]{1,9}$/.test(retries)) {
    throw source.error("DOCKERFILE_FLAG", `--retries=${retries} is no number`);
  }
  return {
    ...base,
    test: argv === undefined ? ["CMD-SHELL", rest] : ["CMD", ...argv],
    ...durations,
    ...(retries === undefined ? {} : { retries: Number(retries) }),
  };
}

const durationFlags = [
  ["interval", "intervalNs"],
  ["timeout", "timeoutNs"],
  ["start-period", "startPeriodNs"],
  ["start-interval", "startIntervalNs"],
] as const;
