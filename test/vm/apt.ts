/**
 * Packages of Debian releases other than this machine's own: apt with lists and sources apart from the machine's, which
 * stay as they are. The mirrors are those that the machine's apt names.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cached, keyOf } from "./cache.ts";

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

export interface Mirrors {
  readonly main: string;
  /** Where security updates come from; empty where the machine has no such source. */
  readonly security: string;
}

/** Debian's mirrors as this machine's apt has them; undefined where it is not Debian's apt. */
export function debianMirrors(): Mirrors | undefined {
  let lines: string[];
  try {
    const format = ["--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages"];
    lines = output("apt-get", ["indextargets", ...format]).split("\n");
  } catch {
    return undefined;
  }
  const uri = (label: string): string => lines.find((line) => line.startsWith(`Debian ${label} `))?.split(" ")[2] ?? "";
  const main = uri("Debian");
  return main === "" ? undefined : { main, security: uri("Debian-Security") };
}

/** Runs a program and returns what it prints; a failing one throws with what it says on standard error. */
export function output(program: string, args: readonly string[], cwd = "/"): string {
  return execFileSync(program, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], maxBuffer: 2 ** 26 });
}

/** A package as apt would install it. */
export interface Candidate {
  readonly name: string;
  readonly version: string;
}

/** The packages of one Debian release. */
export class AptRelease {
  readonly #suite: string;
  readonly #mirrors: Mirrors;
  #home: string;

  /** Reads the mirror's lists, unless they were read before. */
  constructor(suite: string, mirrors: Mirrors) {
    this.#suite = suite;
    this.#mirrors = mirrors;
    this.#home = this.#lists();
  }

  /** Reads the mirror's lists anew. */
  refresh(): void {
    rmSync(this.#home, { recursive: true, force: true });
    this.#home = this.#lists();
  }

  /** What a meta package stands for: the one package it depends on, in the newest version of the lists. */
  resolve(meta: string): Candidate {
    const text = output("apt-cache", [...options(this.#home), "show", "--no-all-versions", meta]);
    const [, name, version] = /^Depends: ([^ ,]+) \(= ([^)]+)\)/m.exec(text) ?? [];
    if (name === undefined || version === undefined) throw new Error(`${meta} of ${this.#suite} depends on no package`);
    return { name, version };
  }

  /** A package in the newest version of the lists. */
  candidate(name: string): Candidate {
    const text = output("apt-cache", [...options(this.#home), "show", "--no-all-versions", name]);
    const version = /^Version: (\S+)$/m.exec(text)?.[1];
    if (version === undefined) throw new Error(`${this.#suite} has no ${name}`);
    return { name, version };
  }

  /** Downloads a package into a directory; the path of the `.deb`. Mirrors drop a version when they get a newer one. */
  download({ name, version }: Candidate, directory: string): string {
    output("apt-get", [...options(this.#home), "download", `${name}=${version}`], directory);
    const file = readdirSync(directory).find((entry) => entry.endsWith(".deb"));
    if (file === undefined) throw new Error(`apt-get downloaded no ${name}`);
    return join(directory, file);
  }

  #lists(): string {
    const { main, security } = this.#mirrors;
    const lines = [`deb [signed-by=${keyring}] ${main} ${this.#suite} main`];
    if (security !== "") lines.push(`deb [signed-by=${keyring}] ${security} ${this.#suite}-security main`);
    return cached(`apt-${this.#suite}`, keyOf(...lines), (home) => {
      mkdirSync(join(home, "lists/partial"), { recursive: true });
      mkdirSync(join(home, "cache/archives/partial"), { recursive: true });
      writeFileSync(join(home, "sources.list"), `${lines.join("\n")}\n`);
      output("apt-get", [...options(home), "update"]);
    });
  }
}

function options(home: string): string[] {
  const settings = {
    "Dir::Etc::sourcelist": join(home, "sources.list"),
    "Dir::Etc::sourceparts": "-",
    "Dir::Etc::preferencesparts": "-",
    "Dir::State::lists": join(home, "lists"),
    "Dir::Cache": join(home, "cache"),
    // The cache may lie where apt's own user cannot look.
    "APT::Sandbox::User": "root",
    "Acquire::Retries": "3",
  };
  return ["-qq", ...Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`])];
}
