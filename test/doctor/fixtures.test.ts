/**
 * Every finding from a host on disk: the test makes one that is sound, breaks one thing, and what the collectors read of it
 * gives that finding. What each sentence says, with facts that are written down: findings.test.ts.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { collectFacts } from "../../src/doctor/collect/collect.ts";
import { diagnose } from "../../src/doctor/diagnose.ts";
import type { FindingId } from "../../src/doctor/findings/finding.ts";
import type { DoctorOptions } from "../../src/doctor/options.ts";
import { privateMounts } from "../support/overlay-lab.ts";
import { MadeHost } from "./made-host.ts";

const root = "/var/lib/docker";
const layerdb = `${root}/image/overlay2/layerdb`;
const hex = (text: string): string => createHash("sha256").update(text).digest("hex");
const short = (name: string): string => name.toUpperCase().padEnd(26, "X");

/** A host to break: a dockerd that runs on overlay2, podman, and a module of overlayfs with everything off. */
class Fixture implements AsyncDisposable {
  readonly host = new MadeHost();
  /** What the daemon answers. Undefined: there is none. */
  info: Record<string, unknown> | undefined = {
    ServerVersion: "28.2.2",
    Driver: "overlay2",
    DockerRootDir: root,
    DriverStatus: [
      ["Supports d_type", "true"],
      ["Native Overlay Diff", "true"],
    ],
  };
  options: Partial<DoctorOptions> = {};
  runc = "1.3.3";
  readonly #mounts: string[] = [];

  constructor() {
    this.write({
      "/boot/config-6.1.0-test": "CONFIG_OVERLAY_FS=m\n",
      "/sys/module/overlay/coresize": "1\n",
      "/proc/sys/user/max_user_namespaces": "100000\n",
      "/etc/docker/daemon.json": "{}\n",
      "/usr/bin/runc": "x",
      "/etc/containers/storage.conf": '[storage]\ndriver = "overlay"\n',
      "/var/lib/containers/storage/storage.lock": "",
    });
    this.parameters({ redirect_dir: "N", metacopy: "N" });
    chmodSync(this.host.prefix, 0o755);
    this.layer("low");
    this.layer("top", "low");
    chmodSync(this.at(root), 0o710);
  }

  at(path: string): string {
    return join(this.host.prefix, path);
  }

  write(files: Readonly<Record<string, string | Uint8Array>>): void {
    this.host.write(files);
  }

  parameters(values: Readonly<Record<string, "Y" | "N">>): void {
    for (const [name, value] of Object.entries(values))
      this.write({ [`/sys/module/overlay/parameters/${name}`]: `${value}\n` });
  }

  /** Says so itself, as it does after a start with these parameters. */
  naive(): void {
    this.status("Native Overlay Diff", "false");
  }

  status(key: string, value: string): void {
    const pairs = (this.info?.DriverStatus ?? []) as [string, string][];
    this.daemon({ DriverStatus: [...pairs.filter(([name]) => name !== key), [key, value]] });
  }

  daemon(changes: Record<string, unknown>): void {
    this.info = { ...this.info, ...changes };
  }

  /** An image's layer of overlay2. */
  layer(name: string, parent?: string): void {
    const chain = `${layerdb}/sha256/${hex(`chain ${name}`)}`;
    this.write({ [`${chain}/cache-id`]: hex(name), [`${chain}/diff`]: "sha256:x", [`${chain}/size`]: "1" });
    if (parent !== undefined) this.write({ [`${chain}/parent`]: `sha256:${hex(`chain ${parent}`)}` });
    this.directory(name, parent);
  }

  /** A directory of overlay2 that nothing refers to yet. */
  directory(name: string, parent?: string): void {
    this.host.directory(`${root}/overlay2/${hex(name)}/diff`);
    this.write({ [`${root}/overlay2/${hex(name)}/link`]: short(name) });
    if (parent !== undefined) this.write({ [`${root}/overlay2/${hex(name)}/lower`]: `l/${short(parent)}` });
    this.host.link(`../${hex(name)}/diff`, `${root}/overlay2/l/${short(name)}`);
    this.host.age(`${root}/overlay2/${hex(name)}`);
  }

  /** A layer of some other driver. */
  layerOf(driver: string): void {
    this.write({ [`${root}/image/${driver}/layerdb/sha256/${hex("other")}/cache-id`]: hex("other") });
  }

  /** A small file system in memory on the data root. */
  mountMemory(options: string): void {
    execFileSync("mount", ["-t", "tmpfs", "-o", `mode=0710,${options}`, "tmpfs", this.at(root)]);
    this.#mounts.push(this.at(root));
    mkdirSync(this.at(`${root}/image`));
  }

  async ids(): Promise<FindingId[]> {
    if (this.info !== undefined) await this.host.answer("/run/docker.sock", this.info);
    const facts = await collectFacts(
      { env: {}, uid: 0, ...this.options },
      { prefix: this.host.prefix, kernel: "6.1.0-test", askVersion: () => `runc version ${this.runc}\n` },
    );
    return diagnose(facts).map(({ id }) => id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const path of this.#mounts) execFileSync("umount", [path]);
    await this.host[Symbol.asyncDispose]();
  }
}

/** Needs mounts: what the file system itself says. */
const ofMounts: ReadonlySet<FindingId> = new Set(["inodes-nearly-gone", "space-nearly-gone", "root-in-memory"]);

/** What a trial mount says, which is not done on made hosts: on a real dockerd in doctor.test.ts. */
type OfTrials = "directory-rename-exdev";

const breaks: Readonly<Record<Exclude<FindingId, OfTrials>, (made: Fixture) => void>> = {
  "layer-links-broken": (made) => truncateSync(made.at(`${root}/overlay2/${hex("low")}/link`)),
  "layers-missing": (made) => rmSync(made.at(`${root}/overlay2/${hex("low")}`), { recursive: true }),
  "layer-metadata-empty": (made) => truncateSync(made.at(`${layerdb}/sha256/${hex("chain low")}/cache-id`)),
  "layer-files-empty": (made) => {
    const record = JSON.stringify({ type: 1, name: "usr/bin/tool", size: 9, payload: "x", position: 0 });
    made.write({ [`${layerdb}/sha256/${hex("chain low")}/tar-split.json.gz`]: gzipSync(`${record}\n`) });
    made.write({ [`${root}/overlay2/${hex("low")}/diff/usr/bin/tool`]: "" });
    chmodSync(made.at(`${root}/overlay2/${hex("low")}/diff/usr/bin/tool`), 0o755);
  },
  "d-type-missing": (made) => made.status("Supports d_type", "false"),
  "user-namespaces-off": (made) => {
    made.write({ "/proc/sys/user/max_user_namespaces": "0\n", "/home/a/.local/share/containers/storage/lock": "" });
    made.options = { uid: 1000, env: { HOME: "/home/a" } };
  },
  "inodes-nearly-gone": (made) => made.mountMemory("size=64m,nr_inodes=2"),
  "space-nearly-gone": (made) => {
    made.mountMemory("size=1m");
    made.write({ [`${root}/full`]: Buffer.alloc(1000 * 1024) });
  },
  "layer-limit-near": (made) => {
    for (let i = 1; i <= 120; i++) made.layer(`n${i}`, i === 1 ? "top" : `n${i - 1}`);
  },
  "naive-diff-redirect-dir": (made) => {
    made.parameters({ redirect_dir: "Y" });
    made.naive();
  },
  "naive-diff-metacopy": (made) => {
    made.parameters({ metacopy: "Y" });
    made.naive();
  },
  "naive-diff-redirect-dir-and-metacopy": (made) => {
    made.parameters({ redirect_dir: "Y", metacopy: "Y" });
    made.naive();
  },
  "naive-diff-other": (made) => {
    made.status("userxattr", "true");
    made.naive();
  },
  "naive-diff-driver": (made) => made.daemon({ Driver: "btrfs", DriverStatus: [["Btrfs", ""]] }),
  "naive-diff-podman": (made) =>
    made.write({
      "/etc/containers/storage.conf":
        '[storage]\ndriver = "overlay"\n[storage.options.overlay]\nmountopt = "nodev,metacopy=on"\n',
    }),
  "naive-diff-podman-remembered": (made) => made.write({ "/run/containers/storage/overlay/native-diff()-false": "" }),
  "overlay-changed-since-start": (made) => made.parameters({ redirect_dir: "Y" }),
  "overlay-changes-at-reboot": (made) => made.write({ "/etc/modprobe.d/x.conf": "options overlay redirect_dir=on\n" }),
  "modprobe-options-unheeded": (made) => {
    made.write({ "/boot/config-6.1.0-test": "CONFIG_OVERLAY_FS=y\n" });
    made.write({ "/etc/modprobe.d/x.conf": "options overlay index=on\n" });
    made.parameters({ index: "N" });
  },
  "loop-lvm": (made) => made.daemon({ Driver: "devicemapper", DriverStatus: [["Data loop file", "/x/data"]] }),
  "vfs-fallback": (made) => made.daemon({ Driver: "vfs", DriverStatus: [] }),
  "driver-removed": (made) => made.layerOf("aufs"),
  "driver-deprecated": (made) => made.daemon({ Driver: "aufs", DriverStatus: [], ServerVersion: "20.10.24" }),
  "several-drivers": (made) => made.layerOf("vfs"),
  "orphan-layers": (made) => made.directory("orphan"),
  "root-open-to-others": (made) => chmodSync(made.at(root), 0o711),
  "root-on-network": (made) =>
    made.write({
      "/proc/self/mountinfo": `20 1 8:1 / / rw - ext4 /dev/sda1 rw\n21 20 0:30 / ${root} rw - fuse.sshfs me@far:/ rw\n`,
    }),
  "runtime-known-escapes": (made) => {
    made.runc = "1.1.11";
  },
  "root-in-memory": (made) => made.mountMemory("size=64m"),
  "classic-builder": (made) => made.daemon({ ServerVersion: "20.10.24" }),
  "docker-diff-naive": () => {},
};

const soundRoot: readonly FindingId[] = ["docker-diff-naive"];

test("a made host where all is sound", async () => {
  await using made = new Fixture();
  assert.deepEqual(await made.ids(), soundRoot);
});

const mayMount = privateMounts();

for (const [id, breakIt] of Object.entries(breaks) as [FindingId, (made: Fixture) => void][])
  test(`a host with ${id}`, async (t) => {
    if (ofMounts.has(id) && mayMount !== true) return t.skip(mayMount);
    await using made = new Fixture();
    breakIt(made);
    const found = await made.ids();
    assert.ok(found.includes(id), found.join(", "));
  });
