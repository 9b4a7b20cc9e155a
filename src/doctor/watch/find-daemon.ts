/**
 * The process behind a socket. A process called dockerd is it when it holds the listening socket of that path: the peer's
 * credentials (SO_PEERCRED) would name systemd where systemd made the socket and handed it over.
 */
import { realpathSync } from "node:fs";
import { type DaemonProcess, daemonProcesses } from "../collect/docker-processes.ts";
import type { HostView } from "../host-view.ts";

/** Undefined when no process is known to hold it; then it is not seen, or not there. */
export function daemonOf(host: HostView, socket: string): DaemonProcess | undefined {
  const path = realPath(host, socket);
  return daemonProcesses(host).find((daemon) => {
    const inodes = listening(host.text(`/proc/${daemon.pid}/net/unix`) ?? "", (one) => realPath(host, one) === path);
    return (host.names(`/proc/${daemon.pid}/fd`) ?? []).some((fd) => {
      const target = host.link(`/proc/${daemon.pid}/fd/${fd}`) ?? "";
      return inodes.has(/^socket:\[([0-9]+)\]$/.exec(target)?.[1] ?? "");
    });
  });
}

/** Inodes of the listening sockets in a /proc/net/unix (proc(5)): `Num RefCount Protocol Flags Type St Inode Path`. */
function listening(table: string, isWanted: (path: string) => boolean): ReadonlySet<string> {
  const found = new Set<string>();
  for (const line of table.split("\n")) {
    const [, flags = "", inode, path] = /^\S+ \S+ \S+ (\S+) \S+ \S+ +([0-9]+) (\/.*)$/.exec(line) ?? [];
    // __SO_ACCEPTCON
    const accepts = (Number.parseInt(flags, 16) & 0x10000) !== 0;
    if (accepts && inode !== undefined && path !== undefined && isWanted(path)) found.add(inode);
  }
  return found;
}

function realPath(host: HostView, path: string): string {
  try {
    return realpathSync(host.at(path));
  } catch {
    return host.at(path);
  }
}
