/**
 * The cure that gives Docker a ZFS volume, against a recording: no ZFS with volumes is to be had where the tests run. The plan
 * is checked line by line, and so are all programs that carrying it out and undoing it call.
 */
import assert from "node:assert/strict";
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import type { CureHost } from "../../src/doctor/cures/cure-host.ts";
import { planCure } from "../../src/doctor/cures/planners.ts";
import { applyPlan, finishCure, undoCure } from "../../src/doctor/cures/run.ts";
import { kindOf } from "../../src/doctor/cures/steps/step-kinds.ts";
import { diagnose } from "../../src/doctor/diagnose.ts";
import type { DockerFacts } from "../../src/doctor/facts.ts";
import { HostView } from "../../src/doctor/host-view.ts";
import { healthy, healthyDocker, healthyRoot } from "./facts.ts";
import { MadeHost } from "./made-host.ts";

const root = "/var/lib/docker";
const socket = "/run/docker.sock";
const gibibytes = 2 ** 30;

/** A host whose dockerd is a service on a dataset, with what its programs are asked. */
class Recording implements AsyncDisposable {
  readonly made = new MadeHost();
  commands: string[] = [];
  datasets = ["tank", "tank/docker"];
  /** Programs that are not there now. */
  readonly missing = new Set<string>();
  #driver = "zfs";
  readonly #server = createServer((request, response) => {
    const path = request.url?.replace(/\?.*/, "") ?? "";
    request
      .resume()
      .on("end", () =>
        response.end(
          typeof this.#answers[path] === "string" ? this.#answers[path] : JSON.stringify(this.#answers[path]),
        ),
      );
  });
  readonly host: CureHost = {
    view: new HostView(this.made.prefix),
    run: async (argv) => this.#run(argv.join(" ")),
  };

  get #answers(): Record<string, unknown> {
    return {
      "/info": { Driver: this.#driver, DriverStatus: [["Native Overlay Diff", "true"]] },
      "/containers/json": [],
      "/images/json": [{ Id: "sha256:1", RepoTags: ["app:1"], Size: 5 * 2 ** 20 }],
      "/images/get": "an archive",
      "/images/load": "{}",
    };
  }

  async start(): Promise<void> {
    this.made.write({
      "/dev/zfs": "",
      "/etc/docker/daemon.json": '{"storage-driver": "zfs", "storage-opts": ["zfs.fsname=tank/docker"]}\n',
    });
    this.made.write({ "/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n", [`${root}/volumes/data/_data/file`]: "kept" });
    this.made.directory("/run/systemd/system");
    this.#setRunning(true);
    await new Promise<void>((resolve) => this.#server.listen(join(this.made.prefix, socket), resolve));
  }

  get facts(): Parameters<typeof diagnose>[0] {
    const docker: DockerFacts = {
      ...healthyDocker,
      root,
      socket,
      driver: "zfs",
      status: [],
      asked: { driver: "zfs", source: "/etc/docker/daemon.json" },
    };
    const place = {
      ...healthyRoot,
      path: root,
      fileSystem: "zfs",
      mountPoint: root,
      device: "tank/docker",
      trial: { error: "mount: EINVAL", redirects: false, metacopies: false },
    };
    return { ...healthy, docker: [docker], podman: [], roots: { [root]: place } };
  }

  #setRunning(isRunning: boolean): void {
    const process = join(this.made.prefix, "proc/42");
    if (!isRunning) rmSync(process, { recursive: true, force: true });
    else
      this.made.write({
        "/proc/42/comm": "dockerd\n",
        "/proc/42/cmdline": "/usr/bin/dockerd\0-H\0fd://\0",
        "/proc/42/cgroup": "0::/system.slice/docker.service\n",
      });
  }

  #run(command: string): string {
    const answers: Record<string, string> = {
      "zfs list -H -t filesystem -o name,mountpoint": `tank\t/tank\ntank/docker\t${root}\n`,
      "zfs get -H -o source mountpoint tank/docker": "local\n",
      "systemctl show -p MainPID --value docker.service": "42\n",
      "systemctl show -p TriggeredBy --value docker.service": "docker.socket\n",
    };
    const [program = "", verb, ...words] = command.split(" ");
    if (this.missing.has(program)) throw new Error(`${command}: there is no such program`);
    if (answers[command] !== undefined) return answers[command];
    this.commands.push(command.replaceAll(this.made.prefix, ""));
    if (command.startsWith("systemctl stop")) this.#setRunning(false);
    if (command.startsWith("systemctl start")) {
      this.#setRunning(true);
      this.#driver = this.#driver === "zfs" ? "overlay2" : "zfs";
    }
    // The volume shows what was written to it elsewhere.
    const at = (path: string): string => join(this.made.prefix, path);
    if (command.startsWith("mount ") && command.endsWith(` ${root}`))
      cpSync(at(`${root}.lamella-new`), at(root), { recursive: true });
    const [from = "", to = ""] = [words.at(-2), words.at(-1)];
    if (verb === "rename") this.datasets = this.datasets.map((name) => (name === from ? to : name));
    if (verb === "destroy") this.datasets = this.datasets.filter((name) => name !== to);
    if (verb === "create") this.datasets.push(to);
    if (verb === "list") return `${this.datasets.join("\n")}\n`;
    if (verb === "create") this.made.write({ "/dev/zvol/tank/docker-ext4": "" });
    return "";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
    await this.made[Symbol.asyncDispose]();
  }
}

const plan = `zfs create -s -V ${200 * gibibytes} tank/docker-ext4
mkfs.ext4 -q -m 0 /dev/zvol/tank/docker-ext4
make the directory ${root}.lamella-new (0700)
mount -t ext4 -o defaults /dev/zvol/tank/docker-ext4 ${root}.lamella-new
docker save 1 images to ${root}.lamella-new/lamella-doctor-images.tar
systemctl stop docker.socket docker.service
copy ${root} to ${root}.lamella-new, without zfs, image, buildkit, tmp, lost+found, and compare both
umount ${root}.lamella-new
zfs unmount tank/docker
make the directory ${root}.lamella-before (0700)
zfs rename tank/docker tank/docker-lamella-before
zfs set mountpoint=${root}.lamella-before tank/docker-lamella-before
zfs mount tank/docker-lamella-before
make the directory ${root} (0710)
change /etc/docker/daemon.json
change /etc/fstab
systemctl daemon-reload
mount -t ext4 -o defaults /dev/zvol/tank/docker-ext4 ${root}
systemctl start docker.socket docker.service
docker load ${root}/lamella-doctor-images.tar, which is removed at the end (--finish)
see that docker info says \`Storage Driver: overlay2\` and \`Native Overlay Diff: true\` and all 1 images are there`.split(
  "\n",
);

test("a ZFS that overlayfs works on (OpenZFS 2.2): overlay2 in place, by way of an archive; the volume is not needed", async () => {
  await using recording = new Recording();
  await recording.start();
  const { facts, host } = recording;
  const works = { redirects: false, metacopies: false };
  const roots = Object.fromEntries(Object.entries(facts.roots).map(([path, one]) => [path, { ...one, trial: works }]));
  const findings = diagnose({ ...facts, roots });
  const diagnosis = { schema: 1, healthy: false, findings, facts: { ...facts, roots } } as const;
  const cure = await planCure(diagnosis, "naive-diff-driver", { host, choices: {} });
  assert.deepEqual(
    cure?.steps.map((step) => kindOf(step).describe(step)),
    [
      `docker save 1 images to ${root}/lamella-doctor-images.tar`,
      "systemctl stop docker.socket docker.service",
      `see that nothing of overlay2 is in ${root} yet: what comes is set aside by --undo`,
      "change /etc/docker/daemon.json",
      "systemctl start docker.socket docker.service",
      `docker load ${root}/lamella-doctor-images.tar, which is removed at the end (--finish)`,
      "see that docker info says `Storage Driver: overlay2` and `Native Overlay Diff: true` and all 1 images are there",
    ],
  );
});

/** Lines of the plan that are programs, in the order they run. */
const isProgram = (line: string): boolean => /^(zfs|mkfs\.ext4|mount|umount|systemctl) /.test(line);

test("a ZFS volume: the plan line by line, what it runs, how it is undone, how it ends", async () => {
  await using recording = new Recording();
  await recording.start();
  const { facts, host, made } = recording;
  const state = join(made.prefix, "state");
  const findings = diagnose(facts);
  const diagnosis = { schema: 1, healthy: false, findings, facts } as const;
  recording.missing.add("zfs");
  await assert.rejects(planCure(diagnosis, "naive-diff-driver", { host, choices: {} }), { code: "ZFS_SILENT" });
  recording.missing.clear();
  const made200 = await planCure(diagnosis, "naive-diff-driver", { host, choices: { volumeBytes: 200 * gibibytes } });
  assert.ok(made200);
  assert.deepEqual(
    made200.steps.map((step) => kindOf(step).describe(step)),
    plan,
  );
  const fstab = made200.steps.find((step) => step.kind === "write-file" && step.path === "/etc/fstab");
  assert.equal(
    fstab?.kind === "write-file" && fstab.after,
    `/dev/sda1 / ext4 defaults 0 1\n# Docker's data root, by \`lamella doctor\`\n/dev/zvol/tank/docker-ext4 ${root} ext4 defaults,x-systemd.requires=zfs-volumes.target,x-systemd.after=zfs-volumes.target,x-systemd.before=docker.service 0 0\n`,
  );
  const settings = made200.steps.find((step) => step.kind === "write-file" && step.path !== "/etc/fstab");
  assert.equal(settings?.kind === "write-file" && settings.after, '{\n  "storage-driver": "overlay2"\n}\n');
  assert.deepEqual(made200.downtime?.engines, [`Docker (${root})`]);

  await applyPlan(made200, { host, state });
  assert.deepEqual(
    recording.commands,
    plan.filter(isProgram).filter((line) => line !== `umount ${root}.lamella-new`),
  );
  assert.equal(host.view.text(`${root}.lamella-new/volumes/data/_data/file`), "kept");

  // Docker ran on the volume: it is kept, and so is what was copied to it.
  recording.commands = [];
  rmSync(join(made.prefix, root), { recursive: true });
  mkdirSync(join(made.prefix, root));
  recording.missing.add("zfs");
  await assert.rejects(undoCure("naive-diff-driver", { host, state }), {
    code: "CANNOT_ASK",
    message:
      /anything to undo of `zfs mount tank\/docker-lamella-before` could not be asked: zfs list .* no such program/,
  });
  assert.deepEqual(recording.commands, [], "nothing was undone");
  recording.missing.clear();
  const { kept } = await undoCure("naive-diff-driver", { host, state });
  const asked = "zfs list -H -o name";
  assert.deepEqual(recording.commands, [
    ...Array.from({ length: 4 }, () => asked),
    "systemctl stop docker.socket docker.service",
    "systemctl daemon-reload",
    asked,
    "zfs unmount tank/docker-lamella-before",
    asked,
    `zfs set mountpoint=${root} tank/docker-lamella-before`,
    asked,
    "zfs rename tank/docker-lamella-before tank/docker",
    asked,
    "zfs mount tank/docker",
    `mount -t ext4 -o defaults /dev/zvol/tank/docker-ext4 ${root}.lamella-new`,
    "systemctl start docker.socket docker.service",
  ]);
  assert.match(kept.join(), /what `zfs create -s -V \d+ tank\/docker-ext4` made/);
  recording.commands = [];
  await finishCure("naive-diff-driver", { host, state });
  assert.deepEqual(recording.commands, [asked, "zfs destroy tank/docker-ext4"]);
  assert.deepEqual(recording.datasets, ["tank", "tank/docker"]);
  assert.equal(host.view.exists(`${root}.lamella-before`), false);
});

test("a ZFS volume by a unit of systemd, and ended", async () => {
  await using recording = new Recording();
  await recording.start();
  const { facts, host, made } = recording;
  const diagnosis = { schema: 1, healthy: false, findings: diagnose(facts), facts } as const;
  const cure = await planCure(diagnosis, "naive-diff-driver", { host, choices: { mountUnit: true } });
  assert.ok(cure);
  const unit = cure.steps.find((step) => step.kind === "write-file" && step.path.endsWith(".mount"));
  assert.ok(unit?.kind === "write-file");
  assert.equal(unit.path, "/etc/systemd/system/var-lib-docker.mount");
  assert.match(unit.after ?? "", /^What=\/dev\/zvol\/tank\/docker-ext4\nWhere=\/var\/lib\/docker\nType=ext4\n/m);
  const state = join(made.prefix, "state");
  await applyPlan(cure, { host, state });
  assert.ok(recording.commands.includes("systemctl enable var-lib-docker.mount"));
  recording.commands = [];
  await finishCure("naive-diff-driver", { host, state });
  assert.deepEqual(recording.commands, ["zfs destroy -r tank/docker-lamella-before"]);
  assert.equal(host.view.exists(`${root}.lamella-before`), false);
  assert.equal(host.view.exists(`${root}/lamella-doctor-images.tar`), false);
});
