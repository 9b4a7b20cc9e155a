/**
 * Whether a mount namespace has been left by all but servers of its mounts. Nothing else would ever unmount what they serve,
 * and the namespace lives as long as they do.
 *
 * A namespace is somebody's when a process or a thread is in it, has it open (to enter it), or has it bound to a file in the
 * first process's mounts. What cannot be looked at is no reason to think so: processes of other users cannot be in a namespace
 * that belongs to this user namespace, unless they are root of the host.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/**
 * True when this process's mount namespace is nobody's but its own and that of processes which run `script`, too. Always
 * false in the namespace of the first process, and where that cannot be told.
 */
export function isLeftNamespace(script: string): boolean {
  const own = linkOf("/proc/self/ns/mnt");
  if (own === undefined || own === linkOf("/proc/1/ns/mnt")) return false;
  const others = namesIn("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const isIn = (at: string): boolean => linkOf(`${at}/ns/mnt`) === own;
  for (const pid of others) if (isIn(`/proc/${pid}`) && !runs(pid, script)) return false;
  // What is rare is looked for last.
  for (const pid of others) {
    const at = `/proc/${pid}`;
    if (!isIn(at) && namesIn(`${at}/task`).some((task) => isIn(`${at}/task/${task}`))) return false;
    if (namesIn(`${at}/fd`).some((fd) => linkOf(`${at}/fd/${fd}`) === own)) return false;
  }
  return !textOf("/proc/1/mountinfo").includes(` ${own} `);
}

function runs(pid: string, script: string): boolean {
  return textOf(`/proc/${pid}/cmdline`).split("\0").includes(script);
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
