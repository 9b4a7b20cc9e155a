/** All facts. */
import { machine, release } from "node:os";
import { driverFactories } from "../../drivers/open-driver.ts";
import type { Facts, HostFacts, LamellaFacts, RootFacts } from "../facts.ts";
import { HostView } from "../host-view.ts";
import type { DoctorOptions } from "../options.ts";
import { containerdFacts } from "./containerd.ts";
import { type AskDocker, dockerFacts } from "./docker.ts";
import { overlayFacts } from "./overlay.ts";
import { podmanFacts } from "./podman.ts";
import { rootFacts } from "./roots.ts";
import { type AskVersion, askVersion, runtimeFacts } from "./runtimes.ts";
import { type TryOverlay, tryOverlay } from "./trial.ts";

/** What tests put in the place of the host. */
export interface Instead {
  /** Directory taken for `/`. Nothing is tried there. */
  readonly prefix?: string;
  readonly kernel?: string;
  readonly askDocker?: AskDocker;
  readonly askVersion?: AskVersion;
}

/** Errors: canceled by the signal alone; whatever cannot be seen is in `unseen`. */
export async function collectFacts(options: DoctorOptions, instead: Instead = {}): Promise<Facts> {
  const host = new HostView(instead.prefix);
  const kernel = instead.kernel ?? release();
  const named = sortRoots(host, options);
  const docker = await dockerFacts(host, options, named.docker, instead.askDocker);
  const podman = podmanFacts(host, options, named.podman);
  const containerd = containerdFacts(host, options, named.containerd);
  const lamella = named.lamella.map((root) => lamellaFacts(host, root));
  const trial: TryOverlay | undefined = host.prefix === "/" ? tryOverlay : undefined;
  const roots: Record<string, RootFacts> = {};
  for (const { root } of docker) roots[root] = rootFacts(host, root, trial);
  for (const { root } of [...podman, ...containerd, ...lamella]) roots[root] ??= rootFacts(host, root);
  const isTried = docker.length === 0 || Object.values(roots).some((root) => root.trial !== undefined);
  if (!isTried)
    host.missed("what overlayfs does on Docker's file system", "mounting needs root; its parameters are known");
  const ask = instead.askVersion ?? (host.prefix === "/" ? askVersion : undefined);
  const hasEngine = docker.length + podman.length + containerd.length > 0;
  const runtimes = hasEngine && ask !== undefined ? runtimeFacts(host, ask) : undefined;
  return {
    host: { ...hostFacts(host, kernel, options.uid), ...(runtimes !== undefined && { runtimes }) },
    overlay: overlayFacts(host, kernel),
    docker,
    podman,
    containerd,
    lamella,
    roots,
    unseen: host.unseen,
  };
}

/** Whose each root is that the caller named, by what lies in it. What cannot be told is taken for Lamella's. */
function sortRoots(host: HostView, { roots = [], lamellaRoot }: DoctorOptions): Record<Engine, string[]> {
  const sorted: Record<Engine, string[]> = { docker: [], podman: [], containerd: [], lamella: [] };
  for (const root of new Set([...roots, ...(lamellaRoot === undefined ? [] : [lamellaRoot])])) {
    if (host.exists(root)) sorted[ownerOf(host, root)].push(root);
    else if (roots.includes(root)) host.missed(root, "there is no such directory");
  }
  return sorted;
}

type Engine = "docker" | "podman" | "containerd" | "lamella";

function ownerOf(host: HostView, root: string): Engine {
  const has = (path: string): boolean => host.exists(`${root}/${path}`);
  if ((host.names(`${root}/image`) ?? []).some((driver) => has(`image/${driver}/layerdb`))) return "docker";
  if (has("storage.lock") || has("overlay-layers")) return "podman";
  return has("io.containerd.metadata.v1.bolt") ? "containerd" : "lamella";
}

/** Drivers of Lamella's with a directory that holds something. */
function lamellaFacts(host: HostView, root: string): LamellaFacts {
  const drivers = [...driverFactories.values()]
    .filter(({ name, layersFolder }) =>
      (host.names(`${root}/${name}/${layersFolder}`) ?? []).some((one) => /^[0-9a-f]{64}$/.test(one)),
    )
    .map(({ name }) => name);
  return { root, drivers };
}

function hostFacts(host: HostView, kernel: string, uid: number): HostFacts {
  const limit = host.text("/proc/sys/user/max_user_namespaces")?.trim();
  const clone = host.text("/proc/sys/kernel/unprivileged_userns_clone")?.trim();
  const zfs = host.text("/sys/module/zfs/version")?.trim();
  const map = host.text("/proc/self/uid_map") ?? "";
  return {
    kernel,
    machine: machine(),
    uid,
    inUserNamespace: map !== "" && !/^\s*0\s+0\s+4294967295\s*$/.test(map),
    ...(limit !== undefined && { maxUserNamespaces: Number(limit) }),
    ...(clone !== undefined && { unprivilegedUserNamespaces: clone !== "0" }),
    ...(zfs !== undefined && { zfsVersion: zfs }),
  };
}
