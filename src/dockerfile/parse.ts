/**
 * The Dockerfile parser: text in, stages out. It reads and expands nothing, and never acts on `# syntax=`, which it only
 * records. Errors are {@link DockerfileError}s with the lines of the instruction.
 */
import type { ArgInstruction, Directives, Dockerfile, Instruction, Stage } from "./ast.ts";
import { DockerfileError } from "./dockerfile-error.ts";
import { parseFromLine, parseInstructionLine } from "./instructions.ts";
import { splitLines } from "./lines.ts";

export interface ParseOptions {
  /** For error messages; default `Dockerfile`. */
  readonly fileName?: string;
}

/** Parses a whole Dockerfile; throws {@link DockerfileError}. */
export function parseDockerfile(text: string, options: ParseOptions = {}): Dockerfile {
  const { directives, lines, emptyContinuationLines } = splitLines(text, options);
  const context = { escape: directives.escape, fileName: options.fileName };
  const globalArgs: ArgInstruction[] = [];
  const stages: (Stage & { instructions: Instruction[] })[] = [];
  for (const line of lines) {
    const stage = stages.at(-1);
    if (line.keyword.toUpperCase() === "FROM") {
      const from = parseFromLine(line, context);
      const { name, platform } = from;
      stages.push({
        index: stages.length,
        base: from.image,
        ...(name === undefined ? {} : { name }),
        ...(platform === undefined ? {} : { platform }),
        from,
        instructions: [],
      });
      continue;
    }
    const instruction = parseInstructionLine(line, context);
    if (stage !== undefined) stage.instructions.push(instruction);
    else if (instruction.kind === "arg") globalArgs.push(instruction);
    else {
      throw new DockerfileError("DOCKERFILE_NO_STAGE", `${line.keyword} before the first FROM`, line, {
        ...options,
        hint: "a Dockerfile begins with FROM; only ARG may stand before it",
      });
    }
  }
  if (stages.length === 0) {
    const last = Math.max(1, lines.at(-1)?.endLine ?? 1);
    throw new DockerfileError("DOCKERFILE_NO_STAGE", "no FROM", { startLine: last, endLine: last }, options);
  }
  return { directives, globalArgs, stages, emptyContinuationLines };
}

/**
 * Parses one instruction on its own: a trigger of the base image's `OnBuild`, or `commit --change`. Lines in errors count
 * within `text`. Throws {@link DockerfileError}.
 */
export function parseInstruction(
  text: string,
  options: ParseOptions & { readonly escape?: Directives["escape"] } = {},
): Instruction {
  const escapeChar = options.escape ?? "\\";
  const { lines } = splitLines(text, { ...options, escape: escapeChar });
  const [line, ...more] = lines;
  if (line === undefined || more.length > 0) {
    const place = more[0] ?? { startLine: 1, endLine: 1 };
    throw new DockerfileError("DOCKERFILE_SYNTAX", "expected one instruction", place, options);
  }
  return parseInstructionLine(line, { escape: escapeChar, fileName: options.fileName });
}
