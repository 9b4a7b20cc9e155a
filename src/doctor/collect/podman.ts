/** podman and buildah (containers/storage): storage.conf, and the answers its overlay driver keeps until a reboot. */
import { join } from "node:path";
import type { PodmanFacts } from "../facts.ts";
import type { HostView } from "../host-view.ts";
import type { DoctorOptions } from "../options.ts";
import { parseToml } from "./toml.ts";

/** The storage of root and that of the caller, where they exist; `roots`: graph roots that the caller named. */
export function podmanFacts(host: HostView, options: DoctorOptions, roots: readonly string[]): PodmanFacts[] {
  const { env, uid, onlyRoots } = options;
  const found: PodmanFacts[] = [];
  const add = (facts: PodmanFacts): void => {
    if (host.exists(facts.root) && !found.some(({ root }) => root === facts.root)) found.push(facts);
  };
  const system = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];
  const home = env.HOME || "/root";
  const runtime = env.XDG_RUNTIME_DIR || `/run/user/${uid}`;
  const own =
    env.CONTAINERS_STORAGE_CONF || join(env.XDG_CONFIG_HOME || join(home, ".config"), "containers/storage.conf");
  const rootless = {
    root: join(env.XDG_DATA_HOME || join(home, ".local/share"), "containers/storage"),
    run: join(runtime, "containers"),
  };
  const isRoot = uid === 0;
  const files = isRoot && env.CONTAINERS_STORAGE_CONF ? [env.CONTAINERS_STORAGE_CONF, ...system] : system;
  const main = storageOf(host, files, { root: "/var/lib/containers/storage", run: "/run/containers/storage" });
  for (const root of roots) add({ ...main, root, ...driverOf(host, root, main.driver) });
  if (onlyRoots) return found;
  add(main);
  if (!isRoot) add(storageOf(host, [own, ...system], rootless, own));
  return found;
}

/** `own`: the user's file, for storage of a user: the places that the system's files name are root's. */
function storageOf(
  host: HostView,
  files: readonly string[],
  usual: { readonly root: string; readonly run: string },
  own?: string,
): PodmanFacts {
  const config = files.find((path) => host.exists(path));
  const values = parseToml((config && host.text(config)) ?? "");
  const get = (key: string): string | undefined => values.get(`storage.${key}`) || undefined;
  const namesPlaces = own === undefined || config === own;
  const root = (namesPlaces ? get("graphroot") : undefined) ?? usual.root;
  const run = (namesPlaces ? get("runroot") : undefined) ?? usual.run;
  const mountOptions = get("options.overlay.mountopt") ?? get("options.mountopt");
  const mountProgram = get("options.overlay.mount_program") ?? get("options.mount_program");
  return {
    ...(config !== undefined && { config }),
    ...driverOf(host, root, get("driver")),
    root,
    runRoot: run,
    rootless: own !== undefined,
    ...(mountOptions !== undefined && { mountOptions }),
    ...(mountProgram !== undefined && { mountProgram }),
    remembered: (host.names(`${run}/overlay`) ?? []).filter((name) =>
      /^(native-diff|metacopy)\(.*-(true|false)$/.test(name),
    ),
  };
}

/** As configured, else the one whose layers are there: `<driver>-layers/`. */
function driverOf(host: HostView, root: string, configured: string | undefined): { driver?: string } {
  // Its names, not one path after the other: what may not be seen of it is said once.
  const names = host.names(root) ?? [];
  const populated = ["overlay", "vfs", "btrfs", "zfs"].find((name) => names.includes(`${name}-layers`));
  const driver = configured ?? populated;
  return driver === undefined ? {} : { driver };
}
