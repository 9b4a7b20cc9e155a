/** The root file system the benchmarks work on: debootstrap's, and copies of what this machine has below /usr. */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { installed, output } from "./measure.ts";
import { type Context, Unavailable } from "./row.ts";

export interface Input {
  readonly root: string;
  readonly entries: number;
  readonly sizeBytes: number;
  /** A directory in it with thousands of files, absolute within the root. */
  readonly crowded: string;
}

const LEAST_ENTRIES = 80_000;
const LEAST_BYTES = 1_000_000_000;
const sources = ["share", "include", "lib/python3", "src", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib"];

/** Mirror and suite as this machine's apt has them. */
function aptSource(): { readonly mirror: string; readonly suite: string } {
  const lines = output(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]);
  const first = lines.split("\n").find((line) => /^\S+ \S+$/.test(line) && !/-(updates|security|backports)/.test(line));
  const [mirror, suite] = first?.split(" ") ?? [];
  if (mirror === undefined || suite === undefined) throw new Unavailable("apt names no mirror");
  return { mirror, suite };
}

function count(root: string): { entries: number; sizeBytes: number } {
  const entries = Number(output(["sh", "-c", 'find "$0" | wc -l', root]));
  return { entries, sizeBytes: Number(output(["du", "-s", "-B1", root]).split("\t")[0]) };
}

/** Makes the input once; later runs find it. */
export function prepareInput({ places, log }: Context): Input {
  const root = join(places.input, "root");
  const stamp = join(places.input, "entries");
  const crowded = "/opt/copy0/share";
  if (existsSync(stamp)) {
    const { entries, sizeBytes } = JSON.parse(readFileSync(stamp, "utf8")) as { entries: number; sizeBytes: number };
    return { root, entries, sizeBytes, crowded: `${crowded}/doc` };
  }
  if (process.getuid?.() !== 0) throw new Unavailable("making the input needs root");
  places.remove(places.input);
  mkdirSync(root, { recursive: true });
  if (installed("debootstrap") && installed("apt-get")) {
    const { mirror, suite } = aptSource();
    log(`input: debootstrap ${suite}`);
    output(["debootstrap", "--variant=minbase", suite, root, mirror]);
  } else throw new Unavailable("debootstrap is not installed");
  const size = count(root);
  for (let copy = 0; copy < 20; copy++) {
    for (const source of sources) {
      const from = join("/usr", source);
      if (!existsSync(from) || !statSync(from).isDirectory()) continue;
      const to = join(root, `opt/copy${copy}`, source);
      for (const name of readdirSync(from).sort()) {
        if (size.entries >= LEAST_ENTRIES && size.sizeBytes >= LEAST_BYTES) break;
        const added = count(join(from, name));
        // One huge directory would make the input another on each machine.
        if (added.entries > LEAST_ENTRIES / 4 || added.sizeBytes > LEAST_BYTES / 2) continue;
        log(`input: copying ${join(from, name)}`);
        mkdirSync(to, { recursive: true });
        output(["cp", "-a", "--reflink=never", join(from, name), to]);
        size.entries += added.entries;
        size.sizeBytes += added.sizeBytes;
      }
    }
  }
  writeFileSync(stamp, JSON.stringify(size));
  output(["sync", "-f", places.home]);
  return { root, ...size, crowded: `${crowded}/doc` };
}
