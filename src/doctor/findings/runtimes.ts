/** Runtimes with holes through which a container gets out, by version. Each is described at nvd.nist.gov/vuln/detail/<CVE>. */
import type { Facts, RuntimeFacts } from "../facts.ts";
import type { Evidence, Finding } from "./finding.ts";

interface Escape {
  readonly cve: string;
  readonly runtime: RuntimeFacts["name"];
  /** The first version that has it; undefined: all before the fix. */
  readonly since?: string;
  /** The first versions without it, of each line that got the fix. */
  readonly fixed: readonly string[];
}

/** Escapes of the runtimes themselves. Those that need an option few use (krun) are left out. */
const escapes: readonly Escape[] = [
  { cve: "CVE-2019-5736", runtime: "runc", fixed: ["1.0.0-rc7"] },
  { cve: "CVE-2021-30465", runtime: "runc", fixed: ["1.0.0-rc95"] },
  { cve: "CVE-2024-21626", runtime: "runc", since: "1.0.0-rc93", fixed: ["1.1.12"] },
  { cve: "CVE-2025-31133", runtime: "runc", fixed: ["1.2.8", "1.3.3", "1.4.0-rc3"] },
  { cve: "CVE-2025-52565", runtime: "runc", since: "1.0.0-rc3", fixed: ["1.2.8", "1.3.3", "1.4.0-rc3"] },
  { cve: "CVE-2025-52881", runtime: "runc", fixed: ["1.2.8", "1.3.3", "1.4.0-rc3"] },
  { cve: "CVE-2019-18837", runtime: "crun", fixed: ["0.10.5"] },
];

export function runtimeFindings({ host, docker, podman, containerd }: Facts): Finding[] {
  // Where nobody runs containers, nobody gets out of one.
  if (docker.length + podman.length + containerd.length === 0) return [];
  return (host.runtimes ?? []).flatMap((runtime) => {
    const open = escapesOf(runtime).filter((cve) => !runtime.package?.fixes?.includes(cve));
    return open.length === 0 ? [] : [findingOf(runtime, open)];
  });
}

/** Holes that upstream's version of this number has. */
export function escapesOf({ name, version }: Pick<RuntimeFacts, "name" | "version">): string[] {
  return escapes.filter((one) => one.runtime === name && isIn(version, one)).map(({ cve }) => cve);
}

function isIn(version: string, { since, fixed }: Escape): boolean {
  if (since !== undefined && compareVersions(version, since) < 0) return false;
  const line = (one: string): string => one.split(".").slice(0, 2).join(".");
  const ofLine = fixed.find((one) => line(one) === line(version));
  if (ofLine !== undefined) return compareVersions(version, ofLine) < 0;
  return fixed.every((one) => compareVersions(version, one) < 0);
}

function findingOf(runtime: RuntimeFacts, open: readonly string[]): Finding {
  const { name, version, path, package: owner } = runtime;
  const list = open.join(", ");
  const evidence: Evidence[] = [{ source: `${path} --version`, said: version }];
  if (owner?.version !== undefined) evidence.push({ source: `dpkg -s ${name}`, said: owner.version });
  if (owner?.fixes !== undefined)
    evidence.push({
      source: `/usr/share/doc/${name}/changelog.Debian.gz`,
      said: owner.fixes.length === 0 ? "names no CVE" : `names ${owner.fixes.join(", ")}`,
    });
  const base = {
    id: "runtime-known-escapes",
    subject: `${name} ${version} (${path})`,
    evidence,
    cost: "A hostile image may get out of its container and become root of this host",
  } as const;
  if (owner === undefined)
    return {
      ...base,
      severity: "warning",
      sentence: `The program that starts containers has known holes that let a container out: ${list}.`,
      cures: [`update ${name}, or the package it came with (containerd.io, docker, podman)`],
    };
  return {
    ...base,
    severity: "note",
    sentence: `${name} is older than its developers' fixes for ${list}; the distribution may have put them into this version all the same${owner.fixes === undefined ? "" : ", though its changelog does not name them"}.`,
    cures: [
      `install all updates, and look ${list} up at your distribution (Debian: https://security-tracker.debian.org/tracker/source-package/${name})`,
    ],
  };
}

/** `1.0.0-rc93` comes before `1.0.0`; what follows a `+` or `~ds` counts nothing. Negative, zero or positive. */
export function compareVersions(a: string, b: string): number {
  const [one, other] = [numbersOf(a), numbersOf(b)];
  for (let i = 0; i < 4; i++) {
    const difference = (one[i] ?? 0) - (other[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function numbersOf(version: string): number[] {
  const [, major, minor, patch, candidate] =
    /^v?([0-9]+)\.([0-9]+)(?:\.([0-9]+))?(?:[-~.]?rc\.?([0-9]+))?/.exec(version) ?? [];
  const last = candidate === undefined ? Number.POSITIVE_INFINITY : Number(candidate);
  return [Number(major ?? 0), Number(minor ?? 0), Number(patch ?? 0), last];
}
