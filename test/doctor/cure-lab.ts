/** A made host to cure, what lies on it, and what undoing has to bring back. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { CureHost } from "../../src/doctor/cures/cure-host.ts";
import type { CureChoices, Plan } from "../../src/doctor/cures/plan.ts";
import { planCure } from "../../src/doctor/cures/planners.ts";
import { diagnose, isHealthy } from "../../src/doctor/diagnose.ts";
import { HostView } from "../../src/doctor/host-view.ts";
import { MadeHost } from "./made-host.ts";

export const root = "/var/lib/docker";
export const hex = (text: string): string => createHash("sha256").update(text).digest("hex");

/** A made host as cures see it. Programs are noted; `answer` says what they print. */
export class CureLab implements AsyncDisposable {
  readonly made = new MadeHost();
  readonly commands: string[] = [];
  readonly host: CureHost;

  constructor(answer: (command: string) => string = () => "") {
    this.host = {
      view: new HostView(this.made.prefix),
      run: async (argv) => {
        this.commands.push(argv.join(" "));
        return answer(argv.join(" "));
      },
    };
  }

  get state(): string {
    return `${this.made.prefix}.state`;
  }

  async plan(id: string, choices: CureChoices = {}): Promise<Plan> {
    const facts = await this.made.facts();
    const findings = diagnose(facts);
    const all = { schema: 1, healthy: isHealthy(findings), findings, facts } as const;
    const plan = await planCure(all, id, { host: this.host, choices });
    assert.ok(plan, `${id} is not among ${findings.map((one) => one.id).join(", ")}`);
    return plan;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.made[Symbol.asyncDispose]();
    rmSync(this.state, { recursive: true, force: true });
  }
}

/** All that undoing has to bring back: everything but the times of directories. */
export function stateOf(prefix: string): string[] {
  return (readdirSync(prefix, { recursive: true }) as string[]).sort().map((name) => {
    const path = join(prefix, name);
    const { mode, uid, gid, mtimeMs } = lstatSync(path);
    if (lstatSync(path).isSymbolicLink()) return `${name} -> ${readlinkSync(path)}`;
    if (lstatSync(path).isDirectory()) return `${name} ${mode.toString(8)} ${uid}:${gid} ${redirectOf(path)}`;
    // Files of sysfs keep no time, and end in a newline.
    if (name.startsWith("sys/")) return `${name} ${readFileSync(path, "latin1").trim()}`;
    return `${name} ${mode.toString(8)} ${uid}:${gid} ${mtimeMs} ${lstatSync(path).isFile() ? hex(readFileSync(path, "latin1")) : ""}`;
  });
}

function redirectOf(path: string): string {
  if (!path.includes("/diff/")) return "";
  try {
    const args = ["--only-values", "--absolute-names", "-n", "trusted.overlay.redirect", path];
    return execFileSync("getfattr", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return "";
  }
}

/** Of the kernel. */
export const config = (values: string): Record<string, string> => ({
  "/boot/config-6.1.0-test": `CONFIG_OVERLAY_FS=m\n${values}`,
});
/** Of the module. */
export const parameters = (redirectDir: string, metacopy: string): Record<string, string> => ({
  "/sys/module/overlay/coresize": "1\n",
  "/sys/module/overlay/refcnt": "1\n",
  "/sys/module/overlay/parameters/redirect_dir": redirectDir,
  "/sys/module/overlay/parameters/metacopy": metacopy,
});

/** A data root of a daemon that does not run: an image's layer, and a container's on it. */
export function makeRoot({ made }: CureLab): void {
  const layer = `${root}/image/overlay2/layerdb/sha256/${hex("chain")}`;
  made.write({ [`${layer}/cache-id`]: hex("low"), [`${layer}/diff`]: `sha256:${hex("diff")}`, [`${layer}/size`]: "1" });
  made.write({ [`${root}/image/overlay2/layerdb/mounts/${hex("c")}/mount-id`]: hex("top") });
  addLayer(made, "low");
  made.write({ [`${root}/overlay2/${hex("low")}/diff/dir/file`]: "content" });
  addLayer(made, "top", "low");
}

export function addLayer(made: MadeHost, name: string, parent?: string): void {
  const short = (of: string): string => of.toUpperCase().padEnd(26, "X");
  made.directory(`${root}/overlay2/${hex(name)}/diff`);
  made.write({ [`${root}/overlay2/${hex(name)}/link`]: short(name) });
  if (parent !== undefined) made.write({ [`${root}/overlay2/${hex(name)}/lower`]: `l/${short(parent)}` });
  made.link(`../${hex(name)}/diff`, `${root}/overlay2/l/${short(name)}`);
  made.age(`${root}/overlay2/${hex(name)}`);
}

/** The container renamed `dir` to `moved`. */
export function leaveRedirect({ made }: CureLab): void {
  const upper = join(made.prefix, root, "overlay2", hex("top"), "diff");
  mkdirSync(join(upper, "moved"));
  execFileSync("setfattr", ["-n", "trusted.overlay.redirect", "-v", "dir", join(upper, "moved")]);
  execFileSync("mknod", [join(upper, "dir"), "c", "0", "0"]);
}
