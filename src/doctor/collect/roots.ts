/** A data root and the file system under it. */
import { statfsSync } from "node:fs";
import { dirname } from "node:path";
import { fileSystemName } from "../../fs/file-system-name.ts";
import { type MountInfo, parseMountInfo } from "../../fs/mountinfo.ts";
import { bytesOfText, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD, DT_UNKNOWN, O_DIRECTORY, O_RDONLY } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { RootFacts } from "../facts.ts";
import type { HostView } from "../host-view.ts";
import type { TryOverlay } from "./trial.ts";

/** `trial` is left out where overlayfs plays no part. */
export function rootFacts(host: HostView, path: string, trial?: TryOverlay): RootFacts {
  const stat = host.stat(path);
  const mode = stat === undefined ? undefined : stat.mode & 0o7777;
  const dType = seesTypes(host.at(path));
  const tried = trial?.(host.at(path));
  return {
    path,
    ...fileSystemOf(host, path),
    ...mountOf(host, path),
    ...(mode !== undefined && { mode: mode.toString(8).padStart(4, "0") }),
    ...(mode !== undefined && { openToOthers: (mode & 0o001) !== 0 && isReachable(host, dirname(path)) }),
    ...(dType !== undefined && { dType }),
    ...(tried !== undefined && { trial: tried }),
  };
}

function fileSystemOf(host: HostView, path: string): Partial<RootFacts> {
  try {
    const { type, bsize, blocks, bavail, files, ffree } = statfsSync(host.at(path));
    return {
      fileSystem: fileSystemName(type),
      totalBytes: blocks * bsize,
      availableBytes: bavail * bsize,
      totalInodes: files,
      freeInodes: ffree,
    };
  } catch (error) {
    host.missed(`the file system of ${path}`, (error as NodeJS.ErrnoException).code ?? "unknown");
    return {};
  }
}

function mountOf(host: HostView, path: string): Partial<RootFacts> {
  const mounts = parseMountInfo(host.bytes("/proc/self/mountinfo")?.toString("latin1") ?? "");
  const bytes = bytesOfText(path);
  const isAbove = ({ mountPoint }: MountInfo): boolean =>
    mountPoint === "/" || bytes === mountPoint || bytes.startsWith(`${mountPoint}/`);
  // The longest mount point counts, and of two on one point the later.
  const above = mounts.filter(isAbove);
  const longest = Math.max(...above.map(({ mountPoint }) => mountPoint.length));
  const mount = above.findLast(({ mountPoint }) => mountPoint.length === longest);
  if (mount === undefined) return {};
  return {
    mountPoint: textOfBytes(mount.mountPoint),
    mountType: mount.type,
    mountOptions: [...mount.options, ...textOfBytes(mount.superOptions).split(",")],
    device: textOfBytes(mount.source),
  };
}

/** True when everybody may pass through a directory and all above it. */
function isReachable(host: HostView, path: string): boolean {
  for (let at = path; ; at = dirname(at)) {
    const stat = host.stat(at);
    if (stat === undefined || (stat.mode & 0o001) === 0) return false;
    if (at === "/") return true;
  }
}

/** Do the directory's names come with their types? Undefined when it is empty or cannot be read. */
function seesTypes(path: string): boolean | undefined {
  const fd = raw.openat(AT_FDCWD, bytesOfText(path), O_RDONLY | O_DIRECTORY);
  if (fd < 0) return undefined;
  using directory = new sys.OwnedFd(fd);
  const types = sys
    .readdir(directory.fd)
    .filter(({ name }) => name !== "." && name !== "..")
    .map(({ type }) => type);
  return types.length === 0 ? undefined : types.every((type) => type !== DT_UNKNOWN);
}
