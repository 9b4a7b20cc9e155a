/**
 * The commands by name. A command's module is loaded only when it is the one asked for: `lamella info` should not pay for
 * the builder. Each module defines arguments, options, an example, and the action.
 */
import type { Command } from "commander";
import type { Cli } from "./cli.ts";

export interface CommandModule {
  /** Adds arguments, options and the action to a command that has name and summary already. */
  define(command: Command, cli: Cli): void;
}

export interface CommandEntry {
  readonly summary: string;
  readonly group: "Images" | "Containers" | "Store";
  /** Its `--storage-opt` is about the container it makes, as Docker's is. */
  readonly hasStorageOpt?: boolean;
  readonly load: () => Promise<CommandModule>;
}

export const commandTable: Readonly<Record<string, CommandEntry>> = {
  build: {
    summary: "Build an image from a Dockerfile",
    group: "Images",
    load: () => import("./commands/build.ts"),
  },
  import: {
    summary: "Make an image from a root directory or its tar",
    group: "Images",
    load: () => import("./commands/import.ts"),
  },
  load: {
    summary: "Load images from a docker archive, OCI archive or OCI layout",
    group: "Images",
    load: () => import("./commands/load.ts"),
  },
  save: {
    summary: "Write images to a docker archive, OCI archive or OCI layout",
    group: "Images",
    load: () => import("./commands/save.ts"),
  },
  images: { summary: "List images", group: "Images", load: () => import("./commands/images.ts") },
  inspect: {
    summary: "Show all that is known of images and containers",
    group: "Images",
    load: () => import("./commands/inspect.ts"),
  },
  history: {
    summary: "Show the steps an image was made of",
    group: "Images",
    load: () => import("./commands/history.ts"),
  },
  tag: { summary: "Give an image a further name", group: "Images", load: () => import("./commands/tag.ts") },
  rmi: { summary: "Remove images", group: "Images", load: () => import("./commands/rmi.ts") },
  ls: {
    summary: "List a directory of an image without mounting it",
    group: "Images",
    load: () => import("./commands/ls.ts"),
  },
  cat: {
    summary: "Print a file of an image without mounting it",
    group: "Images",
    load: () => import("./commands/cat.ts"),
  },
  run: {
    summary: "Run a command in a new container",
    group: "Containers",
    hasStorageOpt: true,
    load: () => import("./commands/run.ts"),
  },
  create: {
    summary: "Make a container: a writable layer on an image",
    group: "Containers",
    hasStorageOpt: true,
    load: () => import("./commands/create.ts"),
  },
  ps: { summary: "List containers", group: "Containers", load: () => import("./commands/ps.ts") },
  mount: {
    summary: "Mount a container's root file system",
    group: "Containers",
    load: () => import("./commands/mount.ts"),
  },
  umount: { summary: "Unmount containers", group: "Containers", load: () => import("./commands/umount.ts") },
  diff: {
    summary: "Show what a container changed in its image's file system",
    group: "Containers",
    load: () => import("./commands/diff.ts"),
  },
  commit: {
    summary: "Make an image from a container",
    group: "Containers",
    load: () => import("./commands/commit.ts"),
  },
  rm: { summary: "Remove containers", group: "Containers", load: () => import("./commands/rm.ts") },
  info: {
    summary: "Show the storage driver and what this host supports",
    group: "Store",
    load: () => import("./commands/info.ts"),
  },
  doctor: {
    summary: "Find out why this host's container storage is slow or in danger",
    group: "Store",
    load: () => import("./commands/doctor.ts"),
  },
  df: { summary: "Show what the store holds on disk", group: "Store", load: () => import("./commands/df.ts") },
  gc: { summary: "Delete what nothing refers to any more", group: "Store", load: () => import("./commands/gc.ts") },
  migrate: {
    summary: "Move between storage drivers, and between Docker's root and the store",
    group: "Store",
    load: () => import("./commands/migrate.ts"),
  },
  check: { summary: "Verify the store", group: "Store", load: () => import("./commands/check.ts") },
  unshare: {
    summary: "Run a program in the user namespace that rootless commands use",
    group: "Store",
    load: () => import("./commands/unshare.ts"),
  },
};
