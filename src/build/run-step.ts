/** RUN as a step of a stage. */

import { createHash } from "node:crypto";
import { chmodSync, chownSync, mkdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expand, type RunInstruction, runScriptOf } from "../dockerfile/index.ts";
import type { LayerView } from "../drivers/driver.ts";
import { LamellaError, throwIfAborted } from "../errors/lamella-error.ts";
import { tryLockFile } from "../fs/locks.ts";
import { bytesOfText } from "../lib/bytes.ts";
import { Disposables } from "../lib/disposables.ts";
import { BuildError } from "./build-error.ts";
import type { BuildStep } from "./build-events.ts";
import type { LayerStep, StageContext } from "./build-session.ts";
import { parseRunMount, type RunMount } from "./run-mounts.ts";
import type { ContainerMount, ContainerNetwork } from "./runtime/container-spec.ts";
import { fromTree } from "./source-tree-view.ts";
import { environmentOf, shellOf } from "./stage-config.ts";

/** Where a script given as a here-document is put for its RUN. */
const scriptDirectory = "/run/lamella";

/** The step of a RUN. Errors: invalid_argument, unimplemented. */
export function runStep(context: StageContext, instruction: RunInstruction): LayerStep {
  const { session, state } = context;
  const { config } = state;
  if (instruction.security !== undefined && instruction.security !== "sandbox") {
    throw new LamellaError("unimplemented", "NOT_SUPPORTED", `--security=${instruction.security} is not supported`);
  }
  const network = networkOf(instruction.network, session.network);
  const workdir = config.WorkingDir || "/";
  const mounts = instruction.mounts.map((text) =>
    parseRunMount(
      expand(text, (name) => context.lookup(name), { escape: session.escape }),
      workdir,
    ),
  );
  const script = runScriptOf(instruction);
  const argv =
    script.kind === "exec"
      ? script.argv
      : script.kind === "shell"
        ? [...shellOf(config), script.text]
        : [`${scriptDirectory}/${createHash("sha256").update(script.name).digest("hex").slice(0, 16)}`];
  const { env, recorded } = context.args.forRun(environmentOf(config));
  const shown = script.kind === "script" ? [...shellOf(config), script.content] : argv;
  const savedCommand = recorded === undefined ? shown : [`|${recorded.length}`, ...recorded, ...shown];
  return {
    async payload() {
      return ["run", savedCommand, network, instruction.mounts, await mountDigests(context, mounts)];
    },
    createdBy: () => savedCommand.join(" "),
    execute: (view, step) => execute(context, { view, step, argv, env, network, mounts, script, workdir }),
    next: state,
  };
}

interface Execution {
  readonly view: LayerView;
  readonly step: BuildStep;
  readonly argv: readonly string[];
  readonly env: readonly string[];
  readonly network: ContainerNetwork;
  readonly mounts: readonly RunMount[];
  readonly script: ReturnType<typeof runScriptOf>;
  readonly workdir: string;
}

async function execute(context: StageContext, execution: Execution): Promise<boolean | undefined> {
  const { session, state } = context;
  const { config } = state;
  const { step, argv, script } = execution;
  const details = { fileName: session.fileName, line: step.line, text: step.text };
  using locks = new Disposables();
  const mounts: ContainerMount[] = [];
  for (const mount of execution.mounts) {
    const made = await containerMount(context, mount, locks);
    if (made !== undefined) mounts.push(made);
  }
  if (script.kind === "script") {
    const target = bytesOfText(argv[0] ?? "");
    mounts.push({ kind: "file", content: Buffer.from(script.content), target, mode: 0o755, uid: 0, gid: 0 });
  }
  let exit: Awaited<ReturnType<typeof session.threads.runContainer>>;
  try {
    exit = await session.threads.runContainer(
      {
        root: execution.view,
        volatile: true,
        args: argv,
        env: [...environmentOf(config), ...execution.env],
        cwd: execution.workdir,
        ...(config.User === undefined ? {} : { user: config.User }),
        network: execution.network,
        mounts,
      },
      {
        signal: session.signal,
        onOutput: ({ stream, chunk }) => session.emit({ kind: "step-output", step, stream, chunk }),
      },
    );
  } catch (error) {
    if (!(error instanceof LamellaError)) throw error;
    const exitCode = exitCodes[error.code];
    if (exitCode === undefined) throw error;
    throw new BuildError(
      error.kind,
      error.code,
      error.message,
      { ...details, exitCode },
      { hint: error.hint, cause: error },
    );
  }
  if (exit.exitCode !== 0) {
    const how = exit.signal === undefined ? `exit status ${exit.exitCode}` : `killed by ${exit.signal}`;
    throw new BuildError("failed_precondition", "RUN_FAILED", how, {
      ...details,
      exitCode: exit.exitCode,
      signal: exit.signal,
    });
  }
  return exit.unchanged;
}

const exitCodes: Readonly<Record<string, number>> = {
  COMMAND_NOT_FOUND: 127,
  COMMAND_NOT_EXECUTABLE: 126,
  RUNTIME_FAILED: 125,
};

function networkOf(text: string | undefined, fallback: ContainerNetwork): ContainerNetwork {
  if (text === undefined || text === "default") return fallback;
  if (text === "none" || text === "host") return text;
  throw new LamellaError("invalid_argument", "NETWORK", `--network=${text}: expected default, none or host`);
}

/** What mounts add to a step's key: the content of what is bound. Caches and secrets add nothing, as everywhere. */
async function mountDigests(context: StageContext, mounts: readonly RunMount[]): Promise<readonly string[]> {
  const { session } = context;
  return Promise.all(
    mounts.map(async (mount) => {
      if (mount.type !== "bind") return "";
      const from = await bindTree(context, mount);
      return session.threads.digest(
        { kind: "digest", sources: { from, patterns: [mount.source], exclude: [] } },
        session.signal,
      );
    }),
  );
}

async function bindTree(context: StageContext, mount: Extract<RunMount, { type: "bind" }>) {
  const { session } = context;
  if (mount.from !== undefined) return { kind: "layer", ...(await fromTree(context, mount.from)) } as const;
  const { ignore, ignoreName } = session;
  return { kind: "context", path: bytesOfText(contextOf(context)), ignore, ignoreName } as const;
}

/** Waits until no other step, of this process or another, has the cache. */
async function lockCache(path: string, signal: AbortSignal): Promise<Disposable> {
  for (;;) {
    const lock = tryLockFile(bytesOfText(path), "exclusive");
    if (lock !== undefined) return lock;
    await sleep(50);
    throwIfAborted(signal);
  }
}

async function containerMount(
  context: StageContext,
  mount: RunMount,
  locks: Disposables,
): Promise<ContainerMount | undefined> {
  const { session } = context;
  const target = bytesOfText(mount.target);
  switch (mount.type) {
    case "tmpfs":
      return { kind: "tmpfs", target, sizeBytes: mount.sizeBytes };
    case "bind": {
      const path = bytesOfText(mount.source);
      if (mount.from === undefined) {
        const source = { kind: "directory", root: bytesOfText(contextOf(context)), path } as const;
        return { kind: "bind", source, target, readOnly: true };
      }
      const { view } = await fromTree(context, mount.from);
      return { kind: "bind", source: { kind: "layer", view, path }, target, readOnly: true };
    }
    case "cache": {
      if (mount.from !== undefined) {
        throw new LamellaError("unimplemented", "NOT_SUPPORTED", "--mount=type=cache with from= is not supported");
      }
      // The id is the user's text: only its digest becomes a path.
      const name = createHash("sha256").update(mount.id).digest("hex");
      const path = `${session.store.root}/build-caches/${name}`;
      if (mkdirSync(path, { recursive: true }) !== undefined) {
        chmodSync(path, mount.mode);
        chownSync(path, mount.uid, mount.gid);
      }
      if (mount.locked) locks.use(await lockCache(`${path}.lock`, session.signal));
      const source = { kind: "host", path: bytesOfText(path) } as const;
      return { kind: "bind", source, target, readOnly: mount.readOnly };
    }
    case "secret": {
      const content = session.secrets.get(mount.id);
      if (content === undefined) {
        if (!mount.required) return undefined;
        throw new LamellaError("not_found", "NO_SECRET", `the secret ${JSON.stringify(mount.id)} was not given`, {
          hint: `give it with --secret id=${mount.id},src=FILE`,
        });
      }
      const { mode, uid, gid } = mount;
      return { kind: "file", content, target, mode, uid, gid };
    }
    default:
      return mount satisfies never;
  }
}

function contextOf(context: StageContext): string {
  const path = context.session.context;
  if (path !== undefined) return path;
  throw new LamellaError("failed_precondition", "NO_CONTEXT", "this build has no context to mount", {
    hint: "give a directory instead of -",
  });
}
