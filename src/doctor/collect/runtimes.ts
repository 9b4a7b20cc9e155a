/**
 * The programs that start containers, with their versions, and whose packages they are: distributions put fixes into old
 * versions, and say so in their changelogs.
 */
import { spawnSync } from "node:child_process";
import { gunzipSync } from "node:zlib";
import { systemFolders } from "../../fs/find-program.ts";
import type { RuntimeFacts } from "../facts.ts";
import type { HostView } from "../host-view.ts";

/** What `PATH --version` prints; undefined when it does not answer. Tests have their own. */
export type AskVersion = (path: string) => string | undefined;

export const askVersion: AskVersion = (path) => {
  const { status, stdout } = spawnSync(path, ["--version"], { encoding: "utf8", timeout: 5000 });
  return status === 0 ? stdout : undefined;
};

/** The first of each name in the usual places. */
export function runtimeFacts(host: HostView, ask: AskVersion): RuntimeFacts[] {
  return (["runc", "crun"] as const).flatMap((name): RuntimeFacts[] => {
    const path = systemFolders.map((folder) => `${folder}/${name}`).find((one) => host.stat(one)?.isFile());
    const version = path && new RegExp(`^${name} version (\\S+)`, "m").exec(ask(path) ?? "")?.[1];
    if (path === undefined || !version) return [];
    return [{ name, path, version, ...packageOf(host, name, path) }];
  });
}

function packageOf(host: HostView, name: string, path: string): Pick<RuntimeFacts, "package"> {
  const owned = host.exists(`/var/lib/dpkg/info/${name}.list`)
    ? host.text(`/var/lib/dpkg/info/${name}.list`)
    : undefined;
  // /usr/sbin and /sbin are one directory on most hosts, and the list has either.
  const isOwned = owned?.split("\n").some((line) => line.replace(/^\/usr\//, "/") === path.replace(/^\/usr\//, "/"));
  if (!isOwned) {
    const isRpm = path.startsWith("/usr/bin/") && host.exists("/usr/lib/sysimage/rpm");
    return isRpm ? { package: { manager: "rpm" } } : {};
  }
  const status = host.text("/var/lib/dpkg/status") ?? "";
  const version = new RegExp(`^Package: ${name}\\n(?:[^\\n]+\\n)*?Version: (\\S+)`, "m").exec(status)?.[1];
  const fixes = changelogFixes(host, `/usr/share/doc/${name}/changelog.Debian.gz`);
  return {
    package: { manager: "dpkg", ...(version !== undefined && { version }), ...(fixes !== undefined && { fixes }) },
  };
}

/** CVE numbers that a changelog names; undefined when there is none to read. */
function changelogFixes(host: HostView, path: string): string[] | undefined {
  const packed = host.exists(path) ? host.bytes(path) : undefined;
  if (packed === undefined) return undefined;
  try {
    const text = gunzipSync(packed, { maxOutputLength: 64 * 1024 * 1024 }).toString("utf8");
    return [...new Set(text.match(/CVE-[0-9]{4}-[0-9]{4,}/g) ?? [])].sort();
  } catch {
    return undefined;
  }
}
