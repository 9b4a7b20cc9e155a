/** Programs the driver starts, once in the life of a pool: mkfs, and LVM's. Looked for where systems have them. */
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { LamellaError } from "../../errors/lamella-error.ts";
import type { ByteString } from "../../lib/bytes.ts";
import * as raw from "../../sys/raw.ts";
import type { FileSystem } from "./options.ts";

const folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] as const;

/** The path of a program; undefined when it is not installed. */
export function findTool(name: string): string | undefined {
  return folders.map((folder) => `${folder}/${name}`).find((path) => existsSync(path));
}

/** Runs a program to its end; what it printed. Errors: failed_precondition with what it says. */
export async function runTool(name: string, args: readonly string[]): Promise<string> {
  const path = findTool(name);
  if (path === undefined)
    throw new LamellaError("failed_precondition", "TOOL_MISSING", `${name} is not installed`, {
      hint: `install the package that has ${name}`,
    });
  return new Promise((resolve, reject) => {
    execFile(path, [...args], { env: environment() }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      const said = `${stderr}\n${stdout}`.trim();
      reject(
        new LamellaError("failed_precondition", "TOOL_FAILED", `${name} ${args.join(" ")}: ${said}`, { cause: error }),
      );
    });
  });
}

/** Where no udev runs, LVM makes its nodes itself; it has to be told. */
function environment(): Record<string, string> {
  const withoutUdev = existsSync("/run/udev/control") ? {} : { DM_DISABLE_UDEV: "1" };
  return { PATH: folders.join(":"), LC_ALL: "C", ...withoutUdev };
}

/** Whether the kernel knows a file system. A mount that cannot succeed, at `directory`, has its module loaded. */
function kernelHas(fileSystem: FileSystem, directory: ByteString): boolean {
  const listed = (): boolean => readFileSync("/proc/filesystems", "latin1").includes(`\t${fileSystem}\n`);
  if (listed()) return true;
  raw.mount("none", directory, fileSystem, 0, "");
  return listed();
}

/** Why a file system cannot be had; undefined when it can. */
export function fileSystemLack(fileSystem: FileSystem, directory: ByteString): string | undefined {
  if (findTool(`mkfs.${fileSystem}`) === undefined) return `mkfs.${fileSystem} is not installed`;
  return kernelHas(fileSystem, directory) ? undefined : `the kernel has no ${fileSystem}`;
}
