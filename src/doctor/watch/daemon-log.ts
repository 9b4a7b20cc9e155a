/**
 * Lines of dockerd's log that say why it is slow or in trouble, with what they mean. The log is the file its standard error
 * goes to, else what systemd's journal has of it.
 */
import { spawnSync } from "node:child_process";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { findProgram } from "../../fs/find-program.ts";
import type { HostView } from "../host-view.ts";

export interface LogLine {
  readonly line: string;
  /** In words, and the finding of `doctor` that has more. */
  readonly means: string;
}

/** The end of the log is read, this much of it. */
const maxBytes = 8 * 1024 * 1024;
const longestLine = 400;

const known: readonly (readonly [RegExp, string])[] = [
  [
    /Not using native diff for overlay2/,
    "every build step is followed by a comparison of whole trees, since this start",
  ],
  [/\[graphdriver\].*(failed|not supported)|prior storage driver .* failed/, "a storage driver could not be used"],
  [/storage-driver is deprecated/, "the next Docker may not start with this driver"],
  [/loopback devices is strongly discouraged/, "layers are on a block device that is a file (loop-lvm)"],
  [/d_type support/, "the file system under the layers cannot mark deleted files rightly"],
  [/max depth exceeded/, "an image has as many layers as Docker can stack"],
  [/too many levels of symbolic links/, "a layer's short name leads nowhere"],
  [/no space left on device|disk quota exceeded/, "the disk is full, or its inodes are used up"],
  [/error creating overlay mount|failed to mount overlay|error unmounting/i, "mounting a layer failed"],
  [/failed to (get layer|register layer)|layer does not exist/, "a layer is lost or broken"],
];

/** The last of each kind, in the order of the log. Pure. */
export function knownLines(log: string): LogLine[] {
  const found = new Map<string, LogLine>();
  for (const line of log.split("\n")) {
    const means = known.find(([marks]) => marks.test(line))?.[1];
    if (means === undefined) continue;
    found.delete(means);
    found.set(means, { line: line.trim().slice(0, longestLine), means });
  }
  return [...found.values()];
}

export interface DaemonLog {
  /** A path or a command. */
  readonly source: string;
  readonly text: string;
}

/** Undefined when there is none that may be read; why is said in `host`. `file`: one the caller named. */
export function readDaemonLog(host: HostView, pid: number | undefined, file?: string): DaemonLog | undefined {
  const target = file ?? (pid === undefined ? undefined : host.link(`/proc/${pid}/fd/2`));
  // Of a daemon in another mount namespace the path may lead nowhere here; the descriptor does.
  const path = file ?? (target?.startsWith("/") && pid !== undefined ? `/proc/${pid}/fd/2` : undefined);
  if (path !== undefined && target !== undefined && host.stat(path)?.isFile())
    return { source: target, text: endOf(host.at(path)) };
  if (file !== undefined) {
    host.missed(file, "there is no such log");
    return undefined;
  }
  return journal(host);
}

function endOf(path: string): string {
  const fd = openSync(path, "r");
  try {
    const { size } = fstatSync(fd);
    const bytes = Buffer.alloc(Math.min(size, maxBytes));
    return bytes.toString("utf8", 0, readSync(fd, bytes, 0, bytes.length, Math.max(0, size - maxBytes)));
  } finally {
    closeSync(fd);
  }
}

function journal(host: HostView): DaemonLog | undefined {
  const journalctl = findProgram("journalctl");
  if (journalctl === undefined) {
    host.missed("dockerd's log", "it is not a file, and there is no journalctl");
    return undefined;
  }
  const args = ["-u", "docker.service", "-b", "-o", "cat", "--no-pager", "-n", "20000"];
  const { status, stdout } = spawnSync(journalctl, args, { encoding: "utf8", timeout: 10_000, maxBuffer: 64 << 20 });
  if (status === 0 && stdout.trim() !== "") return { source: "journalctl -u docker.service -b", text: stdout };
  host.missed("dockerd's log", "systemd's journal shows none of it");
  return undefined;
}
