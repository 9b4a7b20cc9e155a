/** containerd: its configuration, and the snapshotters that have something. */
import type { ContainerdFacts } from "../facts.ts";
import type { HostView } from "../host-view.ts";
import type { DoctorOptions } from "../options.ts";
import { parseToml } from "./toml.ts";

/** Roots with data; `roots` are those that the caller named. */
export function containerdFacts(host: HostView, options: DoctorOptions, roots: readonly string[]): ContainerdFacts[] {
  const file = "/etc/containerd/config.toml";
  const text = options.onlyRoots ? undefined : host.text(file);
  const usual = options.onlyRoots ? [] : [parseToml(text ?? "").get("root") || "/var/lib/containerd"];
  const config = text === undefined ? {} : { config: file };
  return [...new Set([...roots, ...usual])]
    .filter((root) => host.exists(root))
    .map((root) => ({ ...(usual.includes(root) ? config : {}), root, snapshotters: snapshotters(host, root) }));
}

function snapshotters(host: HostView, root: string): string[] {
  const kind = "io.containerd.snapshotter.v1.";
  return (host.names(root) ?? [])
    .filter((name) => name.startsWith(kind) && (host.names(`${root}/${name}/snapshots`)?.length ?? 0) > 0)
    .map((name) => name.slice(kind.length));
}
