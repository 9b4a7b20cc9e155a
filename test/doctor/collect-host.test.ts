/** What the collectors read of the kernel, its configuration, and the configurations of engines. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { collectFacts } from "../../src/doctor/collect/collect.ts";
import { daemonProcesses, parseArguments } from "../../src/doctor/collect/docker-processes.ts";
import { parseToml } from "../../src/doctor/collect/toml.ts";
import { diagnose } from "../../src/doctor/diagnose.ts";
import type { Facts } from "../../src/doctor/facts.ts";
import { HostView } from "../../src/doctor/host-view.ts";
import { overlayDefaults } from "../../src/doctor/kernel-config.ts";
import { overlayOptionsOfCommandLine, overlayOptionsOfModprobe } from "../../src/doctor/module-options.ts";
import { MadeHost } from "./made-host.ts";

const config = `CONFIG_OVERLAY_FS=m
CONFIG_OVERLAY_FS_REDIRECT_DIR=y
# CONFIG_OVERLAY_FS_INDEX is not set
CONFIG_OVERLAY_FS_METACOPY=y
`;
const parameters = {
  "/sys/module/overlay/parameters/redirect_dir": "Y\n",
  "/sys/module/overlay/parameters/metacopy": "N\n",
};

test("an empty host: every engine is said to be absent, and nothing is wrong", async () => {
  await using host = new MadeHost();
  const facts = await host.facts();
  assert.deepEqual([facts.docker, facts.podman, facts.containerd, facts.lamella], [[], [], [], []]);
  assert.equal(facts.overlay.presence, "unknown");
  assert.deepEqual(facts.overlay.parameters, {});
  assert.deepEqual(diagnose(facts), []);
  assert.match(JSON.stringify(facts.unseen), /defaults the kernel was compiled with/);
});

test("a module: the last word after a reboot has the command line, then modprobe.d, then the kernel's config", async () => {
  await using host = new MadeHost();
  host.write({
    ...parameters,
    "/sys/module/overlay/coresize": "1\n",
    "/boot/config-6.1.0-test": config,
    "/etc/modprobe.d/20-overlay.conf":
      "# options overlay index=on\noptions overlay \\\n  metacopy=off redirect_dir=on\n",
    "/usr/lib/modprobe.d/10-overlay.conf": "options overlay redirect_dir=off\n",
    "/usr/lib/modprobe.d/20-overlay.conf": "options overlay metacopy=on\n",
    "/proc/cmdline": "root=/dev/sda1 overlay.redirect-dir=off quiet\n",
  });
  const { overlay } = await host.facts();
  assert.equal(overlay.presence, "loaded module");
  assert.deepEqual(overlay.parameters, { metacopy: "N", redirect_dir: "Y" });
  assert.deepEqual(overlay.afterReboot, {
    redirect_dir: { value: "N", source: "/proc/cmdline" },
    index: { value: "N", source: "/boot/config-6.1.0-test" },
    metacopy: { value: "N", source: "/etc/modprobe.d/20-overlay.conf:2" },
  });
});

test("built in: modprobe.d plays no part, and that is said", async () => {
  await using host = new MadeHost();
  host.write({
    ...parameters,
    "/proc/config.gz": gzipSync(config.replace("OVERLAY_FS=m", "OVERLAY_FS=y")),
    "/etc/modprobe.d/docker.conf": "options overlay redirect_dir=off metacopy=off\n",
  });
  const facts = await host.facts();
  assert.equal(facts.overlay.presence, "builtin");
  assert.deepEqual(facts.overlay.afterReboot.redirect_dir, { value: "Y", source: "/proc/config.gz" });
  const findings = diagnose(facts);
  assert.deepEqual(
    findings.map(({ id }) => id),
    ["modprobe-options-unheeded"],
  );
  assert.match(findings[0]?.cures[0] ?? "", /overlay\.redirect_dir=N$/);
});

test("values of options are read as the kernel reads them", () => {
  const values = overlayOptionsOfModprobe("options overlay a=1 b=off c=Yes d e=256 f=on g=no h=16384", "f").map(
    ({ name, value }) => `${name}=${value}`,
  );
  assert.deepEqual(values, ["a=Y", "b=N", "c=Y", "d=Y", "e=256", "f=Y", "g=N", "h=16384"]);
  assert.deepEqual(overlayOptionsOfModprobe("options overlayfs a=1\nalias overlay x\n", "f"), []);
  assert.deepEqual(overlayOptionsOfCommandLine("xoverlay.a=1 overlay.index=1"), [
    { name: "index", value: "Y", source: "/proc/cmdline" },
  ]);
  assert.deepEqual(overlayDefaults("# CONFIG_OVERLAY_FS is not set\n"), { overlay: "n", values: {} });
});

test("Docker by its socket: version, driver, status, and who asked for the driver", async () => {
  await using host = new MadeHost();
  await host.answer("/run/docker.sock", {
    ServerVersion: "28.2.2",
    Driver: "vfs",
    DriverStatus: [["Supports d_type", "true"], ["bad"]],
    DockerRootDir: "/srv/docker",
    Warnings: null,
  });
  host.directory("/srv/docker", 0o710);
  const [docker] = (await host.facts()).docker;
  assert.equal(docker?.version, "28.2.2");
  assert.equal(docker?.socket, "/run/docker.sock");
  assert.equal(docker?.root, "/srv/docker");
  assert.deepEqual(docker?.status, [["Supports d_type", "true"]]);
  assert.equal(docker?.asked, undefined);
  assert.deepEqual(
    diagnose(await host.facts()).map(({ id }) => id),
    ["naive-diff-driver", "vfs-fallback"],
  );
  host.write({
    "/proc/42/comm": "dockerd\n",
    "/proc/42/cmdline": "/usr/bin/dockerd\0-H\0fd://\0--config-file=/etc/other.json\0",
    "/etc/other.json": '{"storage-driver": "vfs"}',
  });
  const [configured] = (await host.facts()).docker;
  assert.deepEqual(configured?.asked, { driver: "vfs", source: "/etc/other.json" });
});

test("a socket that answers nothing useful is said, and no error", async () => {
  await using host = new MadeHost();
  await host.answer("/run/docker.sock", { message: "starting" }, 503);
  const { docker, unseen } = await host.facts();
  assert.deepEqual(docker, []);
  assert.match(JSON.stringify(unseen), /\/run\/docker\.sock.*status 503/);
  host.directory("/var/lib/docker");
  assert.equal((await host.facts()).docker[0]?.running, undefined, "nobody can tell");
  const gone = await host.facts({ env: { DOCKER_HOST: "unix:///run/gone.sock" } });
  assert.match(JSON.stringify(gone.unseen), /\/run\/gone\.sock","why":"there is no such socket/);
  const remote = await host.facts({ env: { DOCKER_HOST: "ssh://elsewhere" } });
  assert.match(JSON.stringify(remote.unseen), /DOCKER_HOST=ssh:\/\/elsewhere/);
});

test("a data root by its daemon's arguments", async () => {
  await using host = new MadeHost();
  await host.answer("/srv/second.sock", { Driver: "overlay2", DockerRootDir: "/srv/second" });
  host.write({
    "/proc/42/comm": "dockerd\n",
    "/proc/42/cmdline": "dockerd\0-H\0unix:///srv/second.sock\0--data-root=/srv/second\0",
  });
  host.directory("/srv/second/image/overlay2/layerdb");
  assert.deepEqual((await host.facts()).docker, []);
  const [docker] = (await host.facts({ roots: ["/srv/second"], onlyRoots: true })).docker;
  assert.deepEqual([docker?.running, docker?.socket], [true, "/srv/second.sock"]);
});

test("a dockerd that has ended and is not waited for runs nowhere, not on the usual data root either", async () => {
  await using host = new MadeHost();
  host.write({ "/proc/42/comm": "dockerd\n", "/proc/42/cmdline": "", "/proc/43/comm": "dockerd\n" });
  host.write({ "/proc/43/cmdline": "dockerd\0" });
  const running = daemonProcesses(new HostView(host.prefix)).map(({ pid }) => pid);
  assert.deepEqual(running, [43]);
});

test("arguments of dockerd", () => {
  assert.deepEqual(parseArguments(["-s", "btrfs", "--host=unix:///x.sock", "--data-root", "/d", "--graph=/e"]), {
    sockets: ["/x.sock"],
    root: "/e",
    driver: "btrfs",
    configFile: undefined,
    execRoot: undefined,
  });
});

test("podman: storage.conf and what is remembered until a reboot", async () => {
  await using host = new MadeHost();
  host.directory("/data/containers");
  host.write({
    "/etc/containers/storage.conf": `# comment
[storage]
driver = "overlay" # the default
graphroot = "/data/containers"
runroot = '/run/other'
[storage.options]
additionalimagestores = [
  "/usr/lib/x",
]
[storage.options.overlay]
mountopt = "nodev,metacopy=on"
`,
    "/run/other/overlay/native-diff(nodev,metacopy=on)-false": "",
    "/run/other/overlay/overlay-true": "",
  });
  const facts = await host.facts();
  assert.deepEqual(facts.podman, [
    {
      config: "/etc/containers/storage.conf",
      driver: "overlay",
      root: "/data/containers",
      runRoot: "/run/other",
      rootless: false,
      mountOptions: "nodev,metacopy=on",
      remembered: ["native-diff(nodev,metacopy=on)-false"],
    },
  ]);
  assert.deepEqual(
    diagnose(facts).map(({ id }) => id),
    ["naive-diff-podman"],
  );
});

test("podman without root: the user's storage, with the system's options and the user's places", async () => {
  await using host = new MadeHost();
  host.write({
    "/etc/containers/storage.conf": '[storage]\ngraphroot = "/data"\n[storage.options.overlay]\nmountopt = "nodev"\n',
  });
  host.directory("/home/me/.local/share/containers/storage/vfs-layers");
  const facts = await host.facts({ uid: 1000, env: { HOME: "/home/me" } });
  assert.deepEqual(facts.podman, [
    {
      config: "/etc/containers/storage.conf",
      driver: "vfs",
      root: "/home/me/.local/share/containers/storage",
      runRoot: "/run/user/1000/containers",
      rootless: true,
      mountOptions: "nodev",
      remembered: [],
    },
  ]);
  assert.match(diagnose(facts)[0]?.sentence ?? "", /podman's driver vfs/);
});

test("containerd and Lamella: roots, and what lies in them", async () => {
  await using host = new MadeHost();
  host.write({ "/etc/containerd/config.toml": 'version = 2\nroot = "/data/containerd"\n' });
  host.directory("/data/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1");
  host.directory("/data/containerd/io.containerd.snapshotter.v1.native/snapshots");
  host.directory(`/data/lamella/vfs/dir/${"a".repeat(64)}`);
  const facts = await host.facts({ lamellaRoot: "/data/lamella", roots: ["/nowhere"] });
  assert.deepEqual(facts.containerd, [
    { config: "/etc/containerd/config.toml", root: "/data/containerd", snapshotters: ["overlayfs"] },
  ]);
  assert.deepEqual(facts.lamella, [{ root: "/data/lamella", drivers: ["vfs"] }]);
  assert.ok(facts.unseen.some(({ what }) => what === "/nowhere"));
  assert.equal(facts.roots["/data/lamella"]?.openToOthers, false, "the temporary directory is its owner's");
});

test("TOML as far as it is read", () => {
  const values = parseToml(
    `root = "/a\\"b" # c\n[plugins."io.containerd.grpc.v1.cri".containerd]\n  snapshotter = 'zfs'\nn = 3 # three\n"k.l" = true\nnonsense\n`,
  );
  assert.deepEqual(
    [...values],
    [
      ["root", '/a"b'],
      ["plugins.io.containerd.grpc.v1.cri.containerd.snapshotter", "zfs"],
      ["plugins.io.containerd.grpc.v1.cri.containerd.n", "3"],
      ["plugins.io.containerd.grpc.v1.cri.containerd.k.l", "true"],
    ],
  );
});

test("runtimes: their versions, their packages and what their changelogs name; not without an engine", async () => {
  await using host = new MadeHost();
  const versions: Readonly<Record<string, string>> = {
    "/usr/sbin/runc": "runc version 1.1.5+ds1\ncommit: x\n",
    "/usr/bin/crun": "crun version 1.8.1\n",
  };
  host.write({
    "/usr/sbin/runc": "x",
    "/usr/bin/crun": "x",
    "/var/lib/dpkg/info/runc.list": "/.\n/sbin/runc\n",
    "/var/lib/dpkg/status":
      "Package: a\nVersion: 9\n\nPackage: runc\nStatus: installed\nVersion: 1.1.5+ds1-1+deb12u1\nDescription: x\n\n",
    "/usr/share/doc/runc/changelog.Debian.gz": gzipSync("  * CVE-2024-21626: x\n  * CVE-2024-21626, CVE-2023-1\n"),
  });
  const facts = (): Promise<Facts> =>
    collectFacts({ env: {}, uid: 0 }, { prefix: host.prefix, kernel: "x", askVersion: (path) => versions[path] });
  assert.equal((await facts()).host.runtimes, undefined);
  host.directory("/var/lib/docker");
  const debian = { manager: "dpkg", version: "1.1.5+ds1-1+deb12u1", fixes: ["CVE-2024-21626"] };
  assert.deepEqual((await facts()).host.runtimes, [
    { name: "runc", path: "/usr/sbin/runc", version: "1.1.5+ds1", package: debian },
    { name: "crun", path: "/usr/bin/crun", version: "1.8.1" },
  ]);
});

test("what the kernel says of user namespaces and of ZFS, and daemon.json of BuildKit", async () => {
  await using host = new MadeHost();
  await host.answer("/run/docker.sock", { ServerVersion: "20.10.24", Driver: "zfs", DockerRootDir: "/srv/docker" });
  host.write({
    "/proc/sys/user/max_user_namespaces": "0\n",
    "/proc/sys/kernel/unprivileged_userns_clone": "0\n",
    "/sys/module/zfs/version": "2.1.11-1\n",
    "/etc/docker/daemon.json": '{"features": {"buildkit": true}}',
  });
  const facts = await host.facts();
  assert.equal(facts.host.maxUserNamespaces, 0);
  assert.equal(facts.host.unprivilegedUserNamespaces, false);
  assert.equal(facts.host.zfsVersion, "2.1.11-1");
  assert.equal(facts.docker[0]?.buildkit, true);
});
