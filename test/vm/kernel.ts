/**
 * Debian's cloud kernels: the package downloaded and unpacked, never installed.
 *
 *     kernel-6.1-KEY/vmlinuz          the kernel
 *     kernel-6.1-KEY/release          its name, as `uname -r` has it
 *     kernel-6.1-KEY/modules.ext4     its modules, mounted on /lib/modules in the machine
 *     kernel-6.1-KEY/boot/NN-NAME.ko  the modules that the machine needs before it can mount that, in this order
 */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { AptRelease, type Mirrors, output } from "./apt.ts";
import { cached, keyOf } from "./cache.ts";
import { makeDisk } from "./disk.ts";

/** The kernels to be had, each the newest of its line. */
export const kernels = {
  "6.1": { suite: "bookworm", meta: "linux-image-cloud-amd64" },
  "5.10": { suite: "bullseye", meta: "linux-image-cloud-amd64" },
} as const;

export type KernelLine = keyof typeof kernels;

/** What the disks and the report need; the file system of the disks is built in. */
const bootModules = ["virtio_pci", "virtio_blk", "virtio_console", "virtio-rng"];

export interface Kernel {
  /** As `uname -r` has it. */
  readonly release: string;
  readonly image: string;
  readonly modulesDisk: string;
  readonly bootModules: readonly string[];
}

/** A kernel of the line, from the cache or the mirror. */
export function prepareKernel(line: KernelLine, mirrors: Mirrors): Kernel {
  const { suite, meta } = kernels[line];
  const apt = new AptRelease(suite, mirrors);
  const prepare = (): string => {
    const candidate = apt.resolve(meta);
    const key = keyOf(candidate.name, candidate.version, readFileSync(import.meta.filename));
    return cached(`kernel-${line}`, key, (directory) => unpack(apt.download(candidate, directory), directory));
  };
  let directory: string;
  try {
    directory = prepare();
  } catch {
    // The lists of an earlier day may name what the mirror no longer has.
    apt.refresh();
    directory = prepare();
  }
  const boot = join(directory, "boot");
  return {
    release: readFileSync(join(directory, "release"), "utf8"),
    image: join(directory, "vmlinuz"),
    modulesDisk: join(directory, "modules.ext4"),
    bootModules: readdirSync(boot)
      .sort()
      .map((name) => join(boot, name)),
  };
}

function unpack(deb: string, directory: string): void {
  const tree = join(directory, "tree");
  output("dpkg", ["-x", deb, tree]);
  const [release = ""] = readdirSync(join(tree, "lib/modules"));
  output("depmod", ["-b", tree, release]);
  const modules = join(tree, "lib/modules");
  const boot = join(directory, "boot");
  mkdirSync(boot);
  for (const [i, path] of loadOrder(join(modules, release)).entries()) {
    copyFileSync(path, join(boot, `${String(i).padStart(2, "0")}-${basename(path)}`));
  }
  copyFileSync(join(tree, "boot", `vmlinuz-${release}`), join(directory, "vmlinuz"));
  makeDisk(modules, join(directory, "modules.ext4"), 512);
  writeFileSync(join(directory, "release"), release);
  rmSync(tree, { recursive: true });
  rmSync(deb);
}

/** The files of `bootModules` and of what they depend on, dependencies first. */
function loadOrder(modules: string): string[] {
  // modules.dep: `FILE: DEPENDENCY...`, each dependency before those it depends on itself.
  const dependencies = new Map<string, readonly string[]>();
  for (const line of readFileSync(join(modules, "modules.dep"), "utf8").split("\n")) {
    const [file = "", rest = ""] = line.split(":");
    dependencies.set(file, rest.split(" ").filter(Boolean).reverse());
  }
  const order = new Set<string>();
  for (const name of bootModules) {
    // Absent: built in.
    const file = [...dependencies.keys()].find((path) => basename(path) === `${name}.ko`);
    if (file === undefined) continue;
    for (const path of [...(dependencies.get(file) ?? []), file]) order.add(join(modules, path));
  }
  return [...order];
}
