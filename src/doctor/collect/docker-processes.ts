/** dockerd processes that run here, by their arguments: what was asked for stands nowhere else. */
import type { HostView } from "../host-view.ts";

export interface DaemonProcess {
  readonly pid: number;
  /** Paths of unix sockets; /run/docker.sock where none is named. */
  readonly sockets: readonly string[];
  readonly root: string | undefined;
  readonly driver: string | undefined;
  readonly configFile: string | undefined;
  readonly execRoot: string | undefined;
}

/** Processes of others are not always visible (hidepid): then there is nothing to tell. */
export function daemonProcesses(host: HostView): DaemonProcess[] {
  const found: DaemonProcess[] = [];
  for (const pid of host.names("/proc") ?? []) {
    if (!/^[0-9]+$/.test(pid) || host.text(`/proc/${pid}/comm`)?.trim() !== "dockerd") continue;
    const line = host.text(`/proc/${pid}/cmdline`);
    // One that has ended and whose parent has not looked has none: it would be taken for one with the usual places.
    if (line === "") continue;
    found.push({ pid: Number(pid), ...parseArguments(line?.split("\0").slice(1) ?? []) });
  }
  return found;
}

/** `--name value`, `--name=value`, `-s value`. */
export function parseArguments(words: readonly string[]): Omit<DaemonProcess, "pid"> {
  const valuesOf = (...names: string[]): string[] =>
    words.flatMap((word, i) => {
      const [name = "", ...rest] = word.split("=");
      if (!names.includes(name)) return [];
      const value = rest.length > 0 ? rest.join("=") : words[i + 1];
      return value === undefined ? [] : [value];
    });
  const hosts = valuesOf("-H", "--host");
  const named = hosts.filter((one) => one.startsWith("unix://")).map((one) => one.slice("unix://".length));
  return {
    // `fd://` is the socket that systemd hands over, the usual one.
    sockets: named.length > 0 ? named : ["/run/docker.sock", "/var/run/docker.sock"],
    root: valuesOf("--data-root", "--graph", "-g").at(-1),
    driver: valuesOf("-s", "--storage-driver").at(-1),
    configFile: valuesOf("--config-file").at(-1),
    execRoot: valuesOf("--exec-root").at(-1),
  };
}
