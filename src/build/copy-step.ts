/** COPY and ADD as a step of a stage: checks what is not supported, finds the sources' tree, makes the job. */
import { createHash } from "node:crypto";
import type { AddInstruction, CopyInstruction } from "../dockerfile/index.ts";
import { LamellaError } from "../errors/lamella-error.ts";
import { bytesOfText } from "../lib/bytes.ts";
import type { LayerStep, StageContext } from "./build-session.ts";
import type { CopySources } from "./copy/copy-job.ts";
import { fromTree } from "./source-tree-view.ts";
import { destinationOf, nopHistory } from "./stage-config.ts";

/** The step of a COPY or ADD whose words are expanded. Errors: unimplemented, invalid_argument, not_found. */
export async function copyStep(
  context: StageContext,
  instruction: CopyInstruction | AddInstruction,
): Promise<LayerStep> {
  const { session, state } = context;
  checkSupported(instruction);
  const mode = modeOf(instruction.chmod);
  const destination = destinationOf(state.config, instruction.destination);
  const files = instruction.heredocs.map(({ name, content }) => ({ name, content }));
  // The parser lists here-documents among the sources of neither; patterns are files alone.
  const patterns = instruction.sources;
  const sources = await sourcesOf(context, instruction, patterns);
  const unpack = instruction.kind === "add" && instruction.unpack !== false;
  let digest = "";
  return {
    async payload() {
      const content =
        patterns.length === 0 ? "" : await session.threads.digest({ kind: "digest", sources }, session.signal);
      const kind = files.length === 0 ? kindOf(content) : patterns.length + files.length > 1 ? "multi" : "file";
      digest = `${kind}:${createHash("sha256")
        .update(JSON.stringify([content, files]))
        .digest("hex")}`;
      return [instruction.kind, digest, destination, instruction.chown ?? null, mode ?? null, unpack];
    },
    createdBy() {
      // Docker writes no space between the two.
      const chown = instruction.chown === undefined ? "" : `--chown=${instruction.chown}`;
      return nopHistory(
        state.config,
        `${instruction.kind.toUpperCase()} ${chown}${digest} in ${instruction.destination} `,
      );
    },
    async execute(view) {
      const report = await session.threads.copy(
        {
          kind: "copy",
          view,
          sources,
          files,
          destination,
          chown: instruction.chown,
          keepOwners: instruction.kind === "copy" && instruction.from !== undefined && instruction.chown === undefined,
          mode,
          unpack,
          clampMtimeSec: session.sourceDateEpoch,
        },
        session.signal,
      );
      return report.unchanged;
    },
    next: state,
  };
}

/** `dir` of `dir:0123…`. */
function kindOf(digest: string): string {
  return digest.slice(0, digest.indexOf(":"));
}

async function sourcesOf(
  context: StageContext,
  instruction: CopyInstruction | AddInstruction,
  patterns: readonly string[],
): Promise<CopySources> {
  const { session } = context;
  const exclude = instruction.exclude;
  if (instruction.kind === "copy" && instruction.from !== undefined) {
    const { view, name } = await fromTree(context, instruction.from);
    return { from: { kind: "layer", view, name }, patterns, exclude };
  }
  if (session.context === undefined && patterns.length > 0) {
    throw new LamellaError("failed_precondition", "NO_CONTEXT", "this build has no context to copy files from", {
      hint: "give a directory instead of -",
    });
  }
  return {
    from: {
      kind: "context",
      path: bytesOfText(session.context ?? "/"),
      ignore: session.ignore,
      ignoreName: session.ignoreName,
    },
    patterns,
    exclude,
  };
}

function checkSupported(instruction: CopyInstruction | AddInstruction): void {
  const refuse = (what: string, hint: string): never => {
    throw new LamellaError("unimplemented", "NOT_SUPPORTED", `${what} is not supported`, { hint });
  };
  if (instruction.kind === "copy") {
    if (instruction.parents) refuse("--parents", "name the directories one by one");
    return;
  }
  for (const source of instruction.sources) {
    if (/^(?:https?|ftp):\/\//i.test(source)) refuse(`ADD of ${source}`, "download it in a RUN, or before the build");
    if (/^(?:git@|git:\/\/)|\.git(?:#.*)?$/.test(source)) refuse(`ADD of ${source}`, "clone it before the build");
  }
  if (instruction.checksum !== undefined) refuse("--checksum", "it is for downloads, which are not supported either");
}

function modeOf(chmod: string | undefined): number | undefined {
  if (chmod === undefined) return undefined;
  if (/^[0-7]{1,4}$/.test(chmod)) return Number.parseInt(chmod, 8);
  throw new LamellaError("invalid_argument", "INVALID_MODE", `--chmod=${chmod}: not an octal mode`, {
    hint: "write --chmod=755 or the like",
  });
}
