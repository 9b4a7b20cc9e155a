/** Parameters of the overlay module, programs, directories, modes, mounts. */
import { chmodSync, existsSync, mkdirSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { letDaemonCatchUp } from "../../../drivers/zfs/catch-up.ts";
import { LamellaError } from "../../../errors/lamella-error.ts";
import { hasCode } from "../../../errors/syscall-error.ts";
import { mountAt } from "../../../fs/mounts.ts";
import { bytesOfText } from "../../../lib/bytes.ts";
import { type CureHost, runPatiently } from "../cure-host.ts";
import type {
  ChangeModeStep,
  CommandStep,
  MakeDirectoryStep,
  MountStep,
  SetParametersStep,
  StepContext,
  StepKind,
  UnmountStep,
} from "./step.ts";

const moduleAt = "/sys/module/overlay";

export const setParameters: StepKind<SetParametersStep> = {
  describe: ({ after, reload }) => {
    const values = Object.entries(after).map(([name, value]) => `${name}=${value}`);
    const how = reload ? "load the module overlay anew, or where something uses it " : "";
    return `${how}${how ? "set" : "set the running parameters of overlayfs:"} ${values.join(" ")} (${moduleAt}/parameters)`;
  },
  apply: async ({ after, reload }, context) => {
    if (reload && (await loadAnew(context)) && isSet(context, after)) {
      context.say("loaded the module overlay anew");
      return;
    }
    set(context, after);
    context.say(`set ${Object.keys(after).join(" and ")} in ${moduleAt}/parameters`);
  },
  undo: async ({ before }, context) => {
    set(context, before);
    return undefined;
  },
};

/** False where something uses it, or it was not loaded so. */
async function loadAnew({ host, say }: StepContext): Promise<boolean> {
  if (host.view.text(`${moduleAt}/refcnt`)?.trim() !== "0") return false;
  try {
    await host.run(["modprobe", "-r", "overlay"]);
  } catch (error) {
    say(`the module overlay stays loaded: ${error instanceof Error ? error.message : String(error)}`);
    return false;
  }
  await host.run(["modprobe", "overlay"]);
  return true;
}

function isSet({ host }: StepContext, values: Readonly<Record<string, string>>): boolean {
  return Object.entries(values).every(
    ([name, value]) => host.view.text(`${moduleAt}/parameters/${name}`)?.trim() === value,
  );
}

function set({ host }: StepContext, values: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(values))
    writeFileSync(host.view.at(`${moduleAt}/parameters/${name}`), value);
}

export const command: StepKind<CommandStep> = {
  describe: ({ argv }) => argv.join(" "),
  apply: async ({ argv, makes }, { host }) => {
    await runUnlessDone(host, argv);
    if (makes === undefined) return;
    // Whoever makes device nodes may take a moment.
    for (let i = 0; i < 100 && !host.view.exists(makes); i++) await new Promise((resolve) => setTimeout(resolve, 100));
    if (!host.view.exists(makes)) throw new LamellaError("failed_precondition", "NOT_MADE", `${makes} does not appear`);
  },
  checkUndo: async (step, context) => {
    if (!keepsData(step, context)) await hasSomethingToUndo(step, context);
  },
  undo: async (step, context) => {
    if (step.undo === undefined) return undefined;
    if (keepsData(step, context)) return `what \`${step.argv.join(" ")}\` made`;
    await undoCommand(step, context);
    return undefined;
  },
  finish: async (step, context, { isUndone }) => {
    if (isUndone && step.holdsData && step.undo !== undefined) await undoCommand(step, context);
    if (!isUndone && step.finish !== undefined) await runPatiently(context.host, step.finish);
    return isUndone ? undefined : step.afterFinish;
  },
};

function keepsData({ holdsData }: CommandStep, { engineRan }: StepContext): boolean {
  return holdsData && engineRan;
}

async function undoCommand(step: CommandStep, context: StepContext): Promise<void> {
  if (await hasSomethingToUndo(step, context)) await runUnlessDone(context.host, step.undo ?? []);
}

/** Errors: failed_precondition (CANNOT_ASK): a program that is missing, forbidden or killed has not said no. */
async function hasSomethingToUndo({ argv, undoIf }: CommandStep, { host }: StepContext): Promise<boolean> {
  if (undoIf === undefined) return true;
  try {
    return (await host.run(undoIf.argv)).split("\n").includes(undoIf.prints);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new LamellaError(
      "failed_precondition",
      "CANNOT_ASK",
      `whether there is anything to undo of \`${argv.join(" ")}\` could not be asked: ${why}`,
      { hint: "put that right, and run it again", cause: error },
    );
  }
}

/** `zfs mount` and `zfs unmount` of what is so already are done. */
async function runUnlessDone(host: CureHost, argv: readonly string[]): Promise<void> {
  // Of zfs-fuse, which may stand still otherwise.
  if (argv[0] === "zfs") letDaemonCatchUp(argv.at(-1) ?? "");
  try {
    await runPatiently(host, argv);
  } catch (error) {
    if (!(error instanceof Error && /already mounted|not currently mounted/.test(error.message))) throw error;
  }
}

export const makeDirectory: StepKind<MakeDirectoryStep> = {
  describe: ({ path, mode }) => `make the directory ${path} (${mode})`,
  apply: async ({ path, mode }, { host }) => {
    const at = host.view.at(path);
    if (!existsSync(at)) mkdirSync(at);
    chmodSync(at, Number.parseInt(mode, 8));
  },
  undo: async ({ path }, { host }) => (removeIfEmpty(host.view.at(path)) ? undefined : path),
  finish: async ({ path, temporary }, { host }) => {
    if (temporary) removeIfEmpty(host.view.at(path));
    return undefined;
  },
};

/** False when there is something in it. */
function removeIfEmpty(path: string): boolean {
  try {
    rmdirSync(path);
  } catch (error) {
    if (hasCode(error, "ENOTEMPTY", "EBUSY")) return false;
    if (!hasCode(error, "ENOENT")) throw error;
  }
  return true;
}

export const changeMode: StepKind<ChangeModeStep> = {
  describe: ({ path, before, after }) => `chmod ${after} ${path} (it is ${before})`,
  apply: async ({ path, after }, { host }) => chmodSync(host.view.at(path), Number.parseInt(after, 8)),
  undo: async ({ path, before }, { host }) => {
    chmodSync(host.view.at(path), Number.parseInt(before, 8));
    return undefined;
  },
};

function mountCommand({ source, target, type, options }: Omit<MountStep, "kind">): string[] {
  return ["mount", "-t", type, "-o", options, source, target];
}

export const mount: StepKind<MountStep> = {
  describe: (step) => mountCommand(step).join(" "),
  apply: (step, context) => mountHere(step, context),
  undo: (step, context) => unmountHere(step, context),
};

export const unmount: StepKind<UnmountStep> = {
  describe: ({ target }) => `umount ${target}`,
  apply: async (step, context) => void (await unmountHere(step, context)),
  undo: async (step, context) => {
    await mountHere(step, context);
    return undefined;
  },
};

async function mountHere(step: Omit<MountStep, "kind">, { host }: StepContext): Promise<void> {
  if (!isMounted(step, host.view.at(step.target))) await host.run(mountCommand(step));
}

async function unmountHere(step: Omit<MountStep, "kind">, { host }: StepContext): Promise<undefined> {
  if (isMounted(step, host.view.at(step.target))) await runPatiently(host, ["umount", step.target]);
  return undefined;
}

/** Something of that type and from there, which is shown by its loop device where it is a file. */
function isMounted({ source, type }: Omit<MountStep, "kind">, target: string): boolean {
  const found = mountAt(bytesOfText(target));
  if (found === undefined || found.type !== type) return false;
  const isFile = existsSync(source) && statSync(source).isFile();
  return isFile ? found.source.startsWith("/dev/loop") : true;
}
