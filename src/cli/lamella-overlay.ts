/**
 * `lamella-overlay [SOURCE] MOUNTPOINT -o OPTIONS`: mounts a union of layers through FUSE. It has the arguments of a mount
 * helper and of fuse-overlayfs, so that `mount -t fuse.lamella-overlay`, podman's `mount_program` and containers/storage can
 * call it. It returns when the mount can be used, and a process stays behind that serves it.
 *
 * Node.js cannot fork: this process starts itself again with `-f`, as the one that stays, and waits for what it says on a
 * pipe. SIGTERM, SIGINT and SIGHUP unmount. Exit status: 0, 1 failed, 2 wrong usage. The driver fuse-overlay starts it with
 * the word `--serves` (and for how many milliseconds it is to wait for work), and asks it for mounts (./overlay-server.ts).
 */
import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { parseRemount } from "../fuse/union/mount-options.ts";
import { bytesOfText } from "../lib/bytes.ts";
import type { OneMount } from "./overlay-server.ts";
import { reportError } from "./report-error.ts";
import { usageError } from "./usage-error.ts";

/** On which the process that stays tells the one that waits. */
const PIPE = 3;

const USAGE = "usage: lamella-overlay [SOURCE] MOUNTPOINT -o lowerdir=DIR[:DIR…][,upperdir=DIR,workdir=DIR]";
const HELP = `${USAGE}

Mounts directories as one, through FUSE, in the format that the kernel's overlayfs has on disk, and stays behind to serve it.

Options:
  -o OPTION[,OPTION…]   as for the kernel's overlayfs: lowerdir, upperdir, workdir, redirect_dir=on|off, metacopy=on|off,
                        userxattr, volatile, fsync=auto|strict, ro; for FUSE: allow_other; as for fuse-overlayfs:
                        uidmapping, gidmapping, squash_to_root, squash_to_uid, squash_to_gid, xattr_permissions=1|2;
                        log=FILE for what goes wrong inside once it is in the background (else the kernel's log)
  -f, --foreground      do not go to the background
  -h, --help            print this

SIGTERM, or umount, ends it. Exit status: 0, 1 when it failed, 2 when it was called wrongly.

Examples:
  lamella-overlay -o lowerdir=/lower merged                                        read-only
  lamella-overlay -o lowerdir=/b:/a,upperdir=/upper,workdir=/work,redirect_dir=on merged
  mount -t fuse.lamella-overlay none merged -o lowerdir=/lower,upperdir=/upper,workdir=/work
`;

interface Arguments extends OneMount {
  readonly foreground: boolean;
  readonly help: boolean;
}

function readArguments(args: readonly string[]): Arguments {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      option: { type: "string", short: "o", multiple: true, default: [] },
      foreground: { type: "boolean", short: "f", default: false },
      tells: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const { foreground, tells, help } = values;
  const target = positionals.at(-1);
  if (help) return { source: "", target: "", options: "", foreground, tells, help };
  if (target === undefined || positionals.length > 2) throw usageError(USAGE, "lamella-overlay --help says more");
  const source = positionals.length === 2 ? (positionals[0] ?? "") : "lamella";
  return { source, target, options: values.option.join(","), foreground, tells, help };
}

/** Starts the process that stays, and answers its exit status, or 0 when it has mounted. */
async function start(args: readonly string[]): Promise<number> {
  const script = process.argv[1] ?? "";
  const child = spawn(process.execPath, [...process.execArgv, script, "-f", "--tells", ...args], {
    detached: true,
    // Whoever reads our standard error waits until nobody has it any more.
    stdio: ["ignore", "ignore", "pipe", "pipe"],
  });
  child.stderr?.pipe(process.stderr);
  const pipe = child.stdio[PIPE];
  return new Promise((settle, fail) => {
    child.once("error", fail);
    child.once("close", (status) => settle(status ?? 1));
    pipe?.once("data", () => process.exit(0));
  });
}

const args = process.argv.slice(2);
// Not needed by the process that only waits, which starts sooner without.
const server = () => import("./overlay-server.ts");
try {
  if (args[0] === "--serves") await (await server()).serveMany(args[1] === undefined ? undefined : Number(args[1]));
  else await run(readArguments(args));
} catch (error) {
  const status = reportError(error);
  // The thread that was to serve is there, and waits.
  (await import("../sys/raw.ts")).exit_group(status);
}

async function run(parsed: Arguments): Promise<void> {
  const other = parseRemount(parsed.options);
  if (parsed.help) process.stdout.write(HELP);
  else if (other !== undefined)
    (await import("../fuse/mount.ts")).remountFuse(bytesOfText(resolve(parsed.target)), other);
  else if (parsed.foreground) await (await server()).serveOne(parsed);
  else process.exitCode = await start(args);
}
