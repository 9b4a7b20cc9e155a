/** Every finding, with facts that show it; and none where all is well. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { diagnose, isHealthy } from "../../src/doctor/diagnose.ts";
import type { Facts, HostFacts, RootFacts, RuntimeFacts } from "../../src/doctor/facts.ts";
import { type Finding, type FindingId, findingIds } from "../../src/doctor/findings/finding.ts";
import { remoteFileSystem } from "../../src/doctor/findings/remote-file-systems.ts";
import { escapesOf } from "../../src/doctor/findings/runtimes.ts";
import { fileSystemName } from "../../src/fs/file-system-name.ts";
import {
  dockerRoot,
  healthy,
  healthyDocker,
  healthyPodman,
  podmanRoot,
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

const withHost = (changes: Partial<HostFacts>, facts = healthy): Facts => ({
  ...facts,
  host: { ...facts.host, ...changes },
});
const withRuntime = (changes: Partial<RuntimeFacts>): Facts =>
  withHost({ runtimes: [{ name: "runc", path: "/usr/bin/runc", version: "1.3.3", ...changes }] });
const rootlessPodman: Facts = { ...healthy, docker: [], podman: [{ ...healthyPodman, rootless: true }] };
const failedTrial = { error: "EINVAL", redirects: false, metacopies: false };
const onlyPodmanOn = (changes: Partial<RootFacts>): Facts => ({
  ...withPodman({}),
  roots: { [podmanRoot]: { path: podmanRoot, ...changes } },
});
/** What is true of every host with overlay2. */
const notes: readonly FindingId[] = ["directory-rename-exdev", "docker-diff-naive"];

/** Facts that show a finding, and what it must say. */
const cases: Readonly<Record<FindingId, readonly (readonly [Facts, RegExp])[]>> = {
  "layer-links-broken": [[withData({ brokenLinks: some }), /power cut/]],
  "layers-missing": [[withData({ missing: some }), /not there/]],
  "layer-metadata-empty": [[withData({ emptyMetadata: some }), /empty/]],
  "layer-files-empty": [[withData({ hollowFiles: some }), /4 programs and libraries.*power cut/]],
  "user-namespaces-off": [
    [withHost({ maxUserNamespaces: 0 }, rootlessPodman), /no user namespaces/],
    [withHost({ unprivilegedUserNamespaces: false }, rootlessPodman), /no user namespaces/],
  ],
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
  "root-on-network": [
    [withRoot({ fileSystem: "nfs", device: "server:/export" }), /network file system \(nfs\), where overlayfs works/],
    [withRoot({ mountType: "nfs4", trial: failedTrial }), /\(nfs4\), where overlayfs does not work/],
    [onlyPodmanOn({ mountType: "fuse.sshfs", fileSystem: "fuse" }), /\(sshfs\), where overlayfs mostly cannot write/],
  ],
  "root-in-memory": [[withRoot({ fileSystem: "tmpfs" }), /gone after a reboot/]],
  "runtime-known-escapes": [
    [withRuntime({ version: "1.1.11" }), /CVE-2024-21626, CVE-2025-31133/],
    [
      withRuntime({ version: "1.1.5+ds1", package: { manager: "dpkg", version: "1.1.5+ds1-1", fixes: [] } }),
      /does not name them/,
    ],
    [
      withRuntime({ version: "1.2.7", package: { manager: "dpkg", fixes: ["CVE-2025-31133"] } }),
      /CVE-2025-52565, CVE-2025-52881/,
    ],
    [withRuntime({ version: "1.2.7", package: { manager: "rpm" } }), /distribution may have/],
  ],
  "classic-builder": [[withDocker({ version: "20.10.24+dfsg1" }), /one step after another/]],
  "directory-rename-exdev": [[healthy, /EXDEV/]],
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

test("a healthy host: nothing but the notes that are true everywhere", () => {
  assert.deepEqual(idsOf(healthy), notes);
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

test("file systems of other machines, by the mount's type and by what statfs says; and those that are not", () => {
  const byKind = {
    network: `nfs nfs4 cifs smb3 afs coda ceph fuse.ceph-fuse fuse.glusterfs lustre beegfs pvfs2 panfs fuse.sshfs fuse.s3fs
      fuse.rclone fuse.goofys fuse.gcsfuse fuse.blobfuse2 fuse.juicefs fuse.davfs`,
    cluster: "ocfs2 gfs2 gpfs",
    host: "9p virtiofs vboxsf fuse.vmhgfs-fuse prl_fs",
  };
  for (const [kind, types] of Object.entries(byKind))
    for (const mountType of types.split(/\s+/)) {
      assert.equal(remoteFileSystem({ mountType, fileSystem: "fuse" })?.kind, kind, mountType);
      assert.equal(remoteFileSystem({ mountType, fileSystem: "<unknown>" })?.name, mountType.replace("fuse.", ""));
    }
  // Where the mount is not to be seen (a container's own mountinfo), by magic numbers of linux/magic.h and stat(1).
  for (const [magic, kind] of [
    [0x6969, "network"],
    [0x517b, "network"],
    [0xff534d42, "network"],
    [0xfe534d42, "network"],
    [0x00c36400, "network"],
    [0x5346414f, "network"],
    [0x6b414653, "network"],
    [0x0bd00bd0, "network"],
    [0x19830326, "network"],
    [0x7461636f, "cluster"],
    [0x01161970, "cluster"],
    [0x47504653, "cluster"],
    [0x01021997, "host"],
  ] as const)
    assert.equal(remoteFileSystem({ fileSystem: fileSystemName(magic) })?.kind, kind, magic.toString(16));
  // Mounted by a program that names itself as the device.
  assert.equal(remoteFileSystem({ mountType: "fuse", device: "mountpoint-s3", fileSystem: "fuse" })?.kind, "network");
  const local = "ext4 xfs btrfs zfs fuseblk fuse.zfs fuse fuse.fuse-overlayfs fuse.mergerfs overlay bcachefs f2fs";
  for (const mountType of local.split(" "))
    assert.equal(remoteFileSystem({ mountType, fileSystem: "fuse", device: "/dev/fuse" }), undefined, mountType);
});

test("file systems without a number of inodes have no lack of them", () => {
  assert.deepEqual(idsOf(withRoot({ totalInodes: 0, freeInodes: 0 })), notes);
});

test("runtimes: each line of versions has its own fix, and a distribution's fixes count", () => {
  const holes = (name: "runc" | "crun", version: string): number => escapesOf({ name, version }).length;
  assert.equal(holes("runc", "1.0.0-rc6"), 5, "the hole of 2024 came with rc93, one of 2025 with rc3");
  assert.equal(holes("runc", "1.0.0-rc94"), 5);
  assert.equal(holes("runc", "1.1.11"), 4);
  assert.equal(holes("runc", "1.1.12"), 3);
  for (const version of ["1.2.8", "1.2.9", "1.3.3", "1.4.0-rc.3", "1.4.0", "v1.5.0"])
    assert.equal(holes("runc", version), 0);
  for (const version of ["1.2.7", "1.3.2", "1.4.0-rc.2", "1.4.0~rc2+ds1"])
    assert.equal(holes("runc", version), 3, version);
  assert.deepEqual([holes("crun", "0.10.4"), holes("crun", "1.8.1")], [1, 0]);
  const all = ["CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"];
  assert.deepEqual(idsOf(withRuntime({ version: "1.2.7", package: { manager: "dpkg", fixes: all } })), notes);
  assert.deepEqual(idsOf({ ...withRuntime({ version: "1.0.0" }), docker: [], podman: [], containerd: [] }), []);
  const severity = (changes: Partial<RuntimeFacts>): string =>
    only(withRuntime({ version: "1.2.7", ...changes }), "runtime-known-escapes").severity;
  assert.deepEqual([severity({}), severity({ package: { manager: "dpkg" } })], ["warning", "note"]);
});

test("ZFS: its version is part of the evidence", () => {
  const facts = withHost({ zfsVersion: "2.1.11-1" }, asDriver("zfs"));
  assert.match(JSON.stringify(only(facts, "naive-diff-driver").evidence), /zfs\/version.*2\.1\.11-1/);
});

test("BuildKit that was asked for, and user namespaces that nobody needs", () => {
  assert.deepEqual(idsOf(withDocker({ version: "20.10.24", buildkit: true })), notes);
  assert.deepEqual(idsOf(withHost({ maxUserNamespaces: 0, unprivilegedUserNamespaces: false })), notes);
});
