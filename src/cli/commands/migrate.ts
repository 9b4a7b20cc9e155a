import type { Command } from "commander";
import type { EndedMigration, MigrationProgress, MigrationReport } from "../../engine/options.ts";
import { humanSize } from "../../lib/human-size.ts";
import { ByteProgress } from "../byte-progress.ts";
import type { Cli } from "../cli.ts";
import { collectPair } from "../global-options.ts";
import { usageError } from "../usage-error.ts";

interface Options {
  readonly to?: string;
  readonly toRoot?: string;
  readonly toOpt?: Readonly<Record<string, string>>;
  readonly finish?: boolean;
  readonly undo?: boolean;
  readonly force?: boolean;
  readonly fromDocker?: string;
  readonly toDocker?: string;
  readonly dockerDriver?: string;
  readonly dryRun?: boolean;
}

const examples = `
One of --to, --from-docker, --to-docker, --finish and --undo. Whatever is interrupted goes on where it stopped when the
same command runs again. Exits 1 when something was left out.

Example:
  lamella migrate --to btrfs --dry-run          what would be moved
  lamella migrate --to btrfs                    every image and container under another driver
  lamella migrate --finish                      then: remove the data under the old one
  lamella migrate --to overlay2 --to-root /mnt/new/lamella
  systemctl stop docker.socket docker
  lamella migrate --from-docker /var/lib/docker
  lamella migrate --to-docker /mnt/new/docker --docker-driver vfs`;

export function define(command: Command, cli: Cli): void {
  command
    .option("--to <driver>", "move the store to another storage driver")
    .option("--to-root <dir>", "with --to: into another directory")
    .option("--to-opt <key=value>", "with --to: option of that driver, repeatable", collectPair)
    .option("--finish", "after --to: remove the data under the old driver")
    .option("--undo", "after --to: remove the data under the new driver, the old one counts again")
    .option("--force", "with --finish or --undo: even when something was made there since")
    .option("--from-docker <dir>", "bring in images and containers from the data root of a stopped dockerd")
    .option("--to-docker <dir>", "write all images into the data root of a stopped dockerd, or a new one")
    .option("--docker-driver <name>", "Docker's storage driver (default: the one with images, else overlay2)")
    .option("--dry-run", "only tell what would be done")
    .addHelpText("after", examples)
    .action(async (options: Options) => {
      checkUsage(options);
      if (options.finish || options.undo) await end(command, cli, options);
      else await move(command, cli, options);
    });
}

function checkUsage(options: Options): void {
  const { to, toRoot, toOpt, finish, undo, force, fromDocker, toDocker, dockerDriver, dryRun } = options;
  const modes = [to, fromDocker, toDocker, finish, undo].filter((mode) => mode !== undefined).length;
  if (modes !== 1)
    throw usageError(
      modes === 0 ? "nothing says where to move" : "only one move at a time",
      "give one of --to, --from-docker, --to-docker, --finish and --undo",
    );
  if (to === undefined && (toRoot !== undefined || toOpt !== undefined))
    throw usageError("--to-root and --to-opt go with --to");
  if (force && !finish && !undo) throw usageError("--force goes with --finish or --undo");
  if (dockerDriver !== undefined && fromDocker === undefined && toDocker === undefined)
    throw usageError("--docker-driver goes with --from-docker or --to-docker");
  if (dryRun && (finish || undo)) throw usageError("--dry-run goes with a move");
}

async function move(command: Command, cli: Cli, options: Options): Promise<void> {
  const engine = await cli.engine(command);
  const { json, quiet, root } = cli.globals(command);
  cli.writing = { path: options.toDocker ?? options.toRoot ?? root, neededBytes: undefined };
  const { dockerDriver, dryRun } = options;
  const shared = { dryRun, signal: cli.signal };
  const report = await (async () => {
    using progress = new ByteProgress(quiet || json);
    const onProgress = (event: MigrationProgress): void => show(progress, event);
    if (options.fromDocker !== undefined)
      return await engine.migrateFromDocker({ root: options.fromDocker, dockerDriver, onProgress, ...shared });
    if (options.toDocker !== undefined)
      return await engine.migrateToDocker({ root: options.toDocker, dockerDriver, onProgress, ...shared });
    const { to: driver = "", toOpt: driverOptions, toRoot } = options;
    return await engine.migrate({ driver, driverOptions, root: toRoot, onProgress, ...shared });
  })();
  if (report.leftOut.length > 0) cli.exitStatus = 1;
  if (json) return cli.printJson(report);
  for (const { subject, message } of report.leftOut) cli.note(`left out: ${subject}: ${message}`);
  for (const { subject, message } of quiet ? [] : report.notes) cli.note(`note: ${subject}: ${message}`);
  if (quiet) return;
  cli.print(summaryOf(report));
  if (options.to === undefined || report.dryRun) return;
  if (report.leftOut.length > 0)
    cli.note(`${engine.driver.name} still counts. \`lamella check --repair\` drops what is lost; then run this again.`);
  else cli.print(`The data under ${engine.driver.name} stays until \`lamella migrate --finish\`.`);
}

async function end(command: Command, cli: Cli, options: Options): Promise<void> {
  await cli.enterUserNamespace(command);
  const { root, driverOptions, json, quiet } = cli.globals(command);
  const { Engine } = await import("../../engine/engine.ts");
  const request = { root, driverOptions, force: options.force, signal: cli.signal };
  const ended: EndedMigration = await (options.finish
    ? Engine.finishMigration(request)
    : Engine.undoMigration(request));
  if (json) return cli.printJson(ended);
  if (quiet) return;
  const { removed, kept } = ended;
  cli.print(
    `Removed ${counted(removed.images, "image")} and ${counted(removed.layers, "layer")} under ${removed.driver} in ${removed.root}; what is under ${kept.driver} in ${kept.root} counts.`,
  );
}

function show(progress: ByteProgress, event: MigrationProgress): void {
  if (event.kind === "container") {
    const { container } = event;
    progress.finish(
      `container ${container.name ?? container.id.slice(0, 12)}`,
      event.event === "done" ? "moved" : "exists already",
    );
    return;
  }
  const label = event.diffId.slice(7, 19);
  if (event.event === "exists") progress.finish(label, "exists already");
  else if (event.event !== "done") progress.update(label, event.bytes, event.totalBytes);
  else progress.finish(label, event.sharedBytes ? `moved, ${humanSize(event.sharedBytes)} shared` : "moved");
}

function summaryOf({ dryRun, images, containers, layers }: MigrationReport): string {
  const things = `${counted(images.length, "image")}, ${counted(containers.length, "container")}, ${counted(layers.count, "layer")}`;
  const there = layers.count - layers.made;
  const details = [
    ...(there > 0 ? [`${there} there already`] : []),
    ...(layers.made > 0 ? [`${layers.made} new with ${humanSize(layers.madeBytes)}`] : []),
    ...(layers.sharedBytes > 0 ? [`${humanSize(layers.sharedBytes)} of that shared with the old`] : []),
  ];
  return `${dryRun ? "Would move" : "Moved"} ${things}${details.length > 0 ? ` (${details.join(", ")})` : ""}.`;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}
