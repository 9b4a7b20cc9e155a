/**
 * Which instructions have their variables expanded, and where in them: Docker's rules. ADD, ARG, COPY, ENV, EXPOSE,
 * FROM, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR are expanded; RUN, CMD, ENTRYPOINT, SHELL, HEALTHCHECK and MAINTAINER
 * are the shell's or nobody's business; ONBUILD is expanded when it is triggered, as the instruction it holds.
 *
 * All words of one instruction see the environment from before it: `ENV a=1 b=$a` sets b to the old value of a.
 */

import { LamellaError } from "../errors/lamella-error.ts";
import type { CopyInstruction, FromInstruction, Heredoc, Instruction, KeyValue, RunInstruction } from "./ast.ts";
import { DockerfileError } from "./dockerfile-error.ts";
import { type ExpandOptions, expand, expandWords, type VariableLookup } from "./expand.ts";
import { heredocOpening } from "./lines.ts";

export interface ExpandInstructionOptions extends Pick<ExpandOptions, "escape"> {
  /** For error messages; default `Dockerfile`. */
  readonly fileName?: string;
}

/**
 * The same instruction with its words expanded and their quotes removed; itself when Docker expands nothing in it.
 * Throws {@link DockerfileError} naming its lines.
 */
export function expandInstruction<T extends Instruction | FromInstruction>(
  instruction: T,
  lookup: VariableLookup,
  options: ExpandInstructionOptions = {},
): T {
  const { fileName, ...lexing } = options;
  try {
    return expanded(instruction, lookup, lexing) as T;
  } catch (error) {
    if (!(error instanceof LamellaError)) throw error;
    throw new DockerfileError(error.code, error.message, instruction, {
      hint: error.hint,
      cause: error,
      ...(fileName === undefined ? {} : { fileName }),
    });
  }
}

function expanded(
  instruction: Instruction | FromInstruction,
  lookup: VariableLookup,
  options: ExpandOptions,
): Instruction | FromInstruction {
  const one = (word: string) => expand(word, lookup, options);
  const member = <K extends string>(key: K, word: string | undefined) =>
    (word === undefined ? {} : { [key]: one(word) }) as { [N in K]?: string };
  switch (instruction.kind) {
    case "from":
      return { ...instruction, image: one(instruction.image), ...member("platform", instruction.platform) };
    case "copy":
    case "add":
      return {
        ...instruction,
        sources: instruction.sources.map(one),
        destination: one(instruction.destination),
        heredocs: instruction.heredocs.map((heredoc) => expandedHeredoc(heredoc, lookup)),
        exclude: instruction.exclude.map(one),
        ...member("chown", instruction.chown),
        ...member("chmod", instruction.chmod),
        ...(instruction.kind === "add" ? member("checksum", instruction.checksum) : {}),
      };
    case "env":
    case "label":
      return { ...instruction, pairs: instruction.pairs.map((pair) => expandedPair(pair, one)) };
    case "arg":
      return {
        ...instruction,
        args: instruction.args.map(({ name, value }) => ({ name: one(name), ...member("value", value) })),
      };
    case "expose":
      return { ...instruction, ports: instruction.ports.flatMap((word) => expandWords(word, lookup, options)) };
    case "volume":
      return { ...instruction, paths: instruction.paths.map(one) };
    case "workdir":
      return { ...instruction, path: one(instruction.path) };
    case "user":
      return { ...instruction, user: one(instruction.user) };
    case "stopsignal":
      return { ...instruction, signal: one(instruction.signal) };
    case "run":
    case "cmd":
    case "entrypoint":
    case "shell":
    case "healthcheck":
    case "onbuild":
    case "maintainer":
      return instruction;
    default:
      return instruction satisfies never;
  }
}

function expandedPair({ name, value }: KeyValue, one: (word: string) => string): KeyValue {
  const expandedName = one(name);
  if (expandedName === "") {
    throw new LamellaError(
      "invalid_argument",
      "DOCKERFILE_SYNTAX",
      `the name ${JSON.stringify(name)} expands to nothing`,
    );
  }
  return { name: expandedName, value: one(value) };
}

/** A body is expanded unless its delimiter was quoted; the escape there is `\` whatever the directive says. */
function expandedHeredoc(heredoc: Heredoc, lookup: VariableLookup): Heredoc {
  if (!heredoc.expand) return heredoc;
  return { ...heredoc, content: expand(heredoc.content, lookup, { keepQuotes: true }) };
}

/** What a RUN executes. */
export type RunScript =
  /** Exactly these arguments, no shell. */
  | { readonly kind: "exec"; readonly argv: readonly string[] }
  /** Text for the stage's SHELL, as its last argument. */
  | { readonly kind: "shell"; readonly text: string }
  /** A file to be made executable and run: a here-document that begins with `#!`. */
  | { readonly kind: "script"; readonly name: string; readonly content: string };

/**
 * What to run for a RUN. `RUN <<EOF` alone is its body: a script of its own when it begins with `#!`, else text for the
 * shell. Any other here-documents are put back behind the command for the shell to read, which expands them itself.
 */
export function runScriptOf(run: Pick<RunInstruction, "command" | "heredocs">): RunScript {
  if (run.command.form === "exec") return { kind: "exec", argv: run.command.argv };
  const { text } = run.command;
  const [first] = run.heredocs;
  if (first === undefined) return { kind: "shell", text };
  if (run.heredocs.length === 1 && heredocOpening(text) !== undefined) {
    const content = unixLines(first.content);
    return content.startsWith("#!") ? { kind: "script", name: first.name, content } : { kind: "shell", text: content };
  }
  const bodies = run.heredocs.map(({ raw, name }) => `\n${unixLines(raw)}${name}`);
  return { kind: "shell", text: text + bodies.join("") };
}

/** The stage or image a COPY takes from, as a stage's index where it names one of those before `before`. */
export function copySourceStage(
  copy: Pick<CopyInstruction, "from">,
  stages: readonly { readonly index: number; readonly name?: string }[],
  before: number,
): number | undefined {
  const from = copy.from?.toLowerCase();
  if (from === undefined) return undefined;
  const earlier = stages.filter(({ index }) => index < before);
  const named = earlier.findLast(({ name }) => name === from);
  return (named ?? earlier.find(({ index }) => String(index) === from))?.index;
}

function unixLines(text: string): string {
  return text.replaceAll("\r\n", "\n");
}
