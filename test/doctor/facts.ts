/** Facts for tests: a host where all is well, and ways to say what is different. */
import type { DockerData, DockerFacts, Facts, PodmanFacts, RootFacts } from "../../src/doctor/facts.ts";

export const dockerRoot = "/var/lib/docker";
export const podmanRoot = "/var/lib/containers/storage";

export const healthyData: DockerData = {
  drivers: [{ driver: "overlay2", layers: 12 }],
  driver: "overlay2",
  deepestChain: 9,
  orphans: { count: 0, examples: [], sizeBytes: 0, sizeIsAtLeast: false },
  missing: { count: 0, examples: [] },
  emptyMetadata: { count: 0, examples: [] },
  brokenLinks: { count: 0, examples: [] },
  hollowFiles: { count: 0, examples: [] },
};

export const healthyDocker: DockerFacts = {
  socket: "/run/docker.sock",
  version: "28.2.2",
  running: true,
  driver: "overlay2",
  status: [
    ["Backing Filesystem", "extfs"],
    ["Supports d_type", "true"],
    ["Using metacopy", "false"],
    ["Native Overlay Diff", "true"],
    ["userxattr", "false"],
  ],
  containerdStore: false,
  warnings: [],
  root: dockerRoot,
  data: healthyData,
};

export const healthyPodman: PodmanFacts = {
  config: "/etc/containers/storage.conf",
  driver: "overlay",
  root: podmanRoot,
  runRoot: "/run/containers/storage",
  rootless: false,
  mountOptions: "nodev",
  remembered: ["native-diff(nodev)-true"],
};

export const healthyRoot: RootFacts = {
  path: dockerRoot,
  fileSystem: "extfs",
  mountPoint: "/",
  mountOptions: ["rw", "relatime"],
  device: "/dev/sda1",
  totalBytes: 100e9,
  availableBytes: 60e9,
  totalInodes: 6_000_000,
  freeInodes: 5_000_000,
  mode: "0710",
  openToOthers: false,
  dType: true,
  trial: { redirects: false, metacopies: false },
};

export const healthy: Facts = {
  host: { kernel: "6.1.0-28-amd64", machine: "x86_64", uid: 0, inUserNamespace: false },
  overlay: {
    presence: "loaded module",
    parameters: { redirect_dir: "N", metacopy: "N", index: "N" },
    compiled: { file: "/boot/config-6.1.0-28-amd64", values: { redirect_dir: "N", metacopy: "N", index: "N" } },
    modprobe: [],
    commandLine: [],
    afterReboot: {
      redirect_dir: { value: "N", source: "/boot/config-6.1.0-28-amd64" },
      metacopy: { value: "N", source: "/boot/config-6.1.0-28-amd64" },
    },
  },
  docker: [healthyDocker],
  podman: [healthyPodman],
  containerd: [{ root: "/var/lib/containerd", snapshotters: ["overlayfs"] }],
  lamella: [{ root: "/var/lib/lamella", drivers: ["overlay2"] }],
  roots: { [dockerRoot]: healthyRoot, [podmanRoot]: { ...healthyRoot, path: podmanRoot, mode: "0700" } },
  unseen: [],
};

export function withDocker(changes: Partial<DockerFacts>, facts: Facts = healthy): Facts {
  return { ...facts, docker: [{ ...healthyDocker, ...changes }] };
}

export function withData(changes: Partial<DockerData>): Facts {
  return withDocker({ data: { ...healthyData, ...changes } });
}

export function withRoot(changes: Partial<RootFacts>, facts: Facts = healthy): Facts {
  return { ...facts, roots: { ...facts.roots, [dockerRoot]: { ...healthyRoot, ...changes } } };
}

export function withPodman(changes: Partial<PodmanFacts>): Facts {
  return { ...healthy, docker: [], podman: [{ ...healthyPodman, ...changes }] };
}

/** Parameters `Y` now; Docker has noticed unless `noticed` is false. */
export function withParameters(on: readonly ("redirect_dir" | "metacopy")[], { noticed = true } = {}): Facts {
  const values = Object.fromEntries(
    ["redirect_dir", "metacopy"].map((name) => [name, on.includes(name as never) ? "Y" : "N"]),
  );
  const source = "/boot/config-6.1.0-28-amd64";
  const afterReboot = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, { value, source }]));
  const overlay = { ...healthy.overlay, parameters: values, afterReboot };
  const status = healthyDocker.status.map(([key, value]) =>
    key === "Native Overlay Diff" ? ([key, String(!noticed)] as const) : ([key, value] as const),
  );
  const trial = { redirects: on.length > 0, metacopies: on.includes("metacopy") };
  return withRoot({ trial }, withDocker({ status }, { ...healthy, overlay }));
}
