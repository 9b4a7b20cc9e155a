/** Every finding, with facts that show it; and none where all is well. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { diagnose, isHealthy } from "../../src/doctor/diagnose.ts";
import type { Facts } from "../../src/doctor/facts.ts";
import { type Finding, type FindingId, findingIds } from "../../src/doctor/findings/finding.ts";
import {
  dockerRoot,
  healthy,
  healthyDocker,
  healthyPodman,
  withData,
  withDocker,
  withParameters,
  withPodman,
  withRoot,
} from "./facts.ts";

const idsOf = (facts: Facts): FindingId[] => diagnose(facts).map(({ id }) => id);

function only(facts: Facts, id: FindingId): Finding {
  const found = diagnose(facts).filter((finding) => finding.id === id);
  assert.equal(found.length, 1, `${id} among ${idsOf(facts).join(", ")}`);
  return found[0] as Finding;
}

const some = {
  count: 4,
  examples: [`${dockerRoot}/overlay2/aaa`, `${dockerRoot}/overlay2/bbb`, `${dockerRoot}/overlay2/ccc`],
};
const futureOn = {
  ...healthy.overlay,
  afterReboot: {
    redirect_dir: { value: "Y", source: "/boot/config-6.1.0-28-amd64" },
    metacopy: { value: "N", source: "x" },
  },
};
const asDriver = (driver: string, facts = healthy): Facts =>
  withDocker({ driver, status: [], asked: { driver, source: "daemon.json" } }, facts);

/** Facts that show a finding, and what it must say. */
const cases: Readonly<Record<FindingId, readonly (readonly [Facts, RegExp])[]>> = {
  "layer-links-broken": [[withData({ brokenLinks: some }), /power cut/]],
  "layers-missing": [[withData({ missing: some }), /not there/]],
  "layer-metadata-empty": [[withData({ emptyMetadata: some }), /empty/]],
  "d-type-missing": [
    [withRoot({ dType: false }), /d_type/],
    [withDocker({ status: [["Supports d_type", "false"]] }), /d_type/],
  ],
  "inodes-nearly-gone": [[withRoot({ freeInodes: 20_000 }), /20000 more files/]],
  "space-nearly-gone": [[withRoot({ availableBytes: 0.4e9 }), /400MB/]],
  "layer-limit-near": [
    [withData({ deepestChain: 120 }), /120 layers.*few steps/],
    [withData({ deepestChain: 125 }), /nothing can be built/],
  ],
  "naive-diff-redirect-dir": [[withParameters(["redirect_dir"]), /redirect_dir on/]],
  "naive-diff-metacopy": [[withParameters(["metacopy"]), /metacopy on, and that turns redirect_dir on/]],
  "naive-diff-redirect-dir-and-metacopy": [[withParameters(["redirect_dir", "metacopy"]), /Both must be turned off/]],
  "naive-diff-other": [
    [
      withDocker({
        status: [
          ["Native Overlay Diff", "false"],
          ["userxattr", "true"],
        ],
      }),
      /in its log/,
    ],
  ],
  "naive-diff-driver": ["zfs", "btrfs", "vfs", "devicemapper", "fuse-overlayfs", "overlay"].map(
    (driver) => [asDriver(driver), new RegExp(`driver ${driver}`)] as const,
  ),
  "naive-diff-podman": [
    [withPodman({ mountOptions: "nodev,metacopy=on" }), /metacopy=on/],
    [withPodman({ mountProgram: "/usr/bin/fuse-overlayfs" }), /fuse-overlayfs/],
    [{ ...withParameters(["redirect_dir"]), docker: [] }, /leaves redirects by default/],
  ],
  "naive-diff-podman-remembered": [[withPodman({ remembered: ["native-diff(nodev)-false"] }), /remembers/]],
  "overlay-changed-since-start": [
    [withDocker({ status: [["Native Overlay Diff", "false"]] }), /Docker looks only once/],
    [withParameters(["redirect_dir"], { noticed: false }), /may lack files/],
  ],
  "overlay-changes-at-reboot": [[{ ...healthy, overlay: futureOn }, /slow after the next reboot/]],
  "modprobe-options-unheeded": [
    [
      {
        ...healthy,
        overlay: {
          ...withParameters(["redirect_dir"]).overlay,
          presence: "builtin",
          modprobe: [{ name: "redirect_dir", value: "N", source: "/etc/modprobe.d/docker.conf:1" }],
        },
      },
      /never reads them there/,
    ],
  ],
  "loop-lvm": [[withDocker({ driver: "devicemapper", status: [["Data loop file", "/x/data"]] }), /sparse file/]],
  "vfs-fallback": [[withDocker({ driver: "vfs", status: [] }), /Nobody chose/]],
  "driver-removed": [
    [
      withData({
        drivers: [
          { driver: "overlay2", layers: 1 },
          { driver: "aufs", layers: 7 },
        ],
      }),
      /7 layers.*aufs/,
    ],
  ],
  "driver-deprecated": [[withDocker({ driver: "devicemapper", version: "20.10.24", status: [] }), /25\.0 removed/]],
  "several-drivers": [
    [
      withData({
        drivers: [
          { driver: "overlay2", layers: 1 },
          { driver: "vfs", layers: 2 },
        ],
      }),
      /2 storage drivers/,
    ],
  ],
  "orphan-layers": [
    [withData({ orphans: { ...some, sizeBytes: 5e9, sizeIsAtLeast: true } }), /4 layers with at least 5GB/],
  ],
  "root-open-to-others": [[withRoot({ openToOthers: true, mode: "0711" }), /CVE-2021-41091/]],
  "docker-diff-naive": [[healthy, /`docker diff` is not/]],
};

for (const id of findingIds) {
  test(id, () => {
    for (const [facts, sentence] of cases[id]) {
      const finding = only(facts, id);
      assert.match(finding.sentence, sentence);
      assert.ok(finding.evidence.length > 0 && finding.cures.length > 0 && finding.cost !== "", id);
      for (const { source, said } of finding.evidence) assert.ok(source !== "" && said !== "", id);
    }
  });
}

test("docs/doctor.md tells of every finding", () => {
  const page = readFileSync(new URL("../../docs/doctor.md", import.meta.url), "utf8");
  for (const id of findingIds) assert.ok(page.includes(`| \`${id}\` |`), id);
});

test("a healthy host: nothing but the note that docker diff is slow everywhere", () => {
  assert.deepEqual(idsOf(healthy), ["docker-diff-naive"]);
  assert.ok(isHealthy(diagnose(healthy)));
  assert.deepEqual(idsOf({ ...healthy, docker: [] }), []);
});

test("a host without any engine", () => {
  assert.deepEqual(idsOf({ ...healthy, docker: [], podman: [], containerd: [], lamella: [], roots: {} }), []);
  const parameters = withParameters(["redirect_dir", "metacopy"]);
  assert.deepEqual(idsOf({ ...parameters, docker: [], podman: [], containerd: [] }), []);
});

test("where overlayfs is built in, the cure is the kernel command line", () => {
  const facts = withParameters(["redirect_dir"]);
  assert.match(
    only(facts, "naive-diff-redirect-dir").cures.join("\n"),
    /options overlay metacopy=off redirect_dir=off/,
  );
  const builtin: Facts = { ...facts, overlay: { ...facts.overlay, presence: "builtin" } };
  const cures = only(builtin, "naive-diff-redirect-dir").cures.join("\n");
  assert.match(cures, /overlay\.metacopy=off overlay\.redirect_dir=off/);
  assert.doesNotMatch(cures, /options overlay/);
});

test("a cure that is configured already needs a reboot only", () => {
  const facts = withParameters(["redirect_dir"]);
  const source = "/etc/modprobe.d/docker.conf:1";
  const afterReboot = { redirect_dir: { value: "N", source }, metacopy: { value: "N", source } };
  const cures = only({ ...facts, overlay: { ...facts.overlay, afterReboot } }, "naive-diff-redirect-dir").cures;
  assert.match(cures[0] ?? "", /^reboot/);
});

test("a daemon that does not run: its driver by its layers, its diff by what overlayfs does", () => {
  const { socket: _, version: __, ...stopped } = healthyDocker;
  const facts: Facts = { ...withParameters(["metacopy"]), docker: [{ ...stopped, running: false, status: [] }] };
  assert.deepEqual(idsOf(facts), ["naive-diff-metacopy", "naive-diff-podman"]);
});

test("layers in containerd's store are no business of the graph drivers' findings", () => {
  const status = [["driver-type", "io.containerd.snapshotter.v1"]] as const;
  for (const driver of ["overlayfs", "zfs", "btrfs", "devmapper"])
    assert.deepEqual(idsOf(withDocker({ driver, containerdStore: true, status })), []);
});

test("on ZFS the cure depends on what overlayfs does there", () => {
  const onZfs = (trial: { error?: string }): string[] => [
    ...only(
      withRoot({ fileSystem: "zfs", trial: { redirects: false, metacopies: false, ...trial } }, asDriver("zfs")),
      "naive-diff-driver",
    ).cures,
  ];
  assert.match(onZfs({})[0] ?? "", /tried on this ZFS and works/);
  assert.match(onZfs({ error: "EINVAL" })[0] ?? "", /ext4 file system on a ZFS volume/);
});

test("podman: the options of its mounts come before the module's parameters", () => {
  const parameters = withParameters(["redirect_dir", "metacopy"]);
  const naive = (mountOptions: string): boolean =>
    idsOf({ ...withPodman({ mountOptions }), overlay: parameters.overlay }).includes("naive-diff-podman");
  assert.equal(naive("nodev"), true);
  assert.equal(naive("nodev,metacopy=off"), true);
  assert.equal(naive("nodev,redirect_dir=off"), false);
  assert.equal(naive("nodev,redirect_dir=off,metacopy=off"), false);
});

test("in a user namespace the module's parameters do nothing", () => {
  const facts = withParameters(["redirect_dir", "metacopy"]);
  const rootless = (native: "true" | "false"): Facts => {
    const status = [["Native Overlay Diff", native] as const, ["userxattr", "true"] as const];
    return { ...withDocker({ status }, facts), podman: [{ ...healthyPodman, rootless: true }] };
  };
  assert.deepEqual(idsOf(rootless("true")), ["docker-diff-naive"]);
  assert.deepEqual(idsOf(rootless("false")), ["naive-diff-other"]);
});

test("vfs that was asked for is no fallback", () => {
  assert.deepEqual(idsOf(asDriver("vfs")), ["naive-diff-driver"]);
});

test("roots on one file system run out of it once", () => {
  const facts = withRoot({ freeInodes: 1000 });
  const other = { ...facts.roots[dockerRoot], path: "/var/lib/containers/storage" };
  const ids = idsOf({ ...facts, roots: { ...facts.roots, [other.path]: other } });
  assert.deepEqual(ids.filter((id) => id === "inodes-nearly-gone").length, 1);
});

test("file systems without a number of inodes have no lack of them", () => {
  assert.deepEqual(idsOf(withRoot({ totalInodes: 0, freeInodes: 0 })), ["docker-diff-naive"]);
});
