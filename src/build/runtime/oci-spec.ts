/**
 * The OCI runtime configuration (runtime-spec, config.md) of a container: namespaces, mounts, capabilities, masked paths as
 * Docker sets them. No cgroup is asked for.
 */
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import type { ImageUser } from "../image-user.ts";
import { defaultCapabilities, maskedPaths, readOnlyPaths } from "./capabilities.ts";
import type { ContainerRoot } from "./container-root.ts";

export interface OciSpecOptions {
  readonly root: ContainerRoot;
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly user: ImageUser;
  readonly hostname: string;
  readonly tty: boolean;
  readonly readOnly: boolean;
  /** In a user namespace with the host's network /sys cannot be mounted: the path of one to show instead. */
  readonly bindSys: ByteString | undefined;
  readonly ttyGroup: boolean;
  readonly maySetGroups: boolean;
  readonly cgroupsPath: string | undefined;
}

interface OciMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** The document's text. */
export function ociSpec(options: OciSpecOptions): string {
  const { root, user } = options;
  const bounding = [...defaultCapabilities.keys()];
  // A user other than root has only what exec gives, which is nothing without file capabilities.
  const own = user.uid === 0 ? bounding : [];
  return JSON.stringify({
    ociVersion: "1.0.2",
    process: {
      terminal: options.tty,
      user: {
        uid: user.uid,
        gid: user.gid,
        ...(options.maySetGroups ? { additionalGids: [...new Set([...user.groups])] } : {}),
      },
      args: options.args,
      env: options.env,
      cwd: options.cwd,
      capabilities: { bounding, effective: own, permitted: own, inheritable: [], ambient: [] },
      noNewPrivileges: false,
    },
    root: { path: textOfBytes(root.path), readonly: options.readOnly },
    hostname: options.hostname,
    mounts: [...systemMounts(options), ...root.mounts.map(ociMount)],
    linux: {
      namespaces: ["mount", "pid", "ipc", "uts"].map((type) => ({ type })),
      maskedPaths,
      readonlyPaths: readOnlyPaths,
      ...(options.cgroupsPath === undefined ? {} : { cgroupsPath: options.cgroupsPath }),
    },
  });
}

function systemMounts(options: OciSpecOptions): OciMount[] {
  const flags = ["nosuid", "noexec", "nodev"];
  return [
    { destination: "/proc", type: "proc", source: "proc", options: flags },
    {
      destination: "/dev",
      type: "tmpfs",
      source: "tmpfs",
      options: ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        ...(options.ttyGroup ? ["gid=5"] : []),
      ],
    },
    options.bindSys !== undefined
      ? { destination: "/sys", type: "none", source: textOfBytes(options.bindSys), options: ["rbind", ...flags, "ro"] }
      : { destination: "/sys", type: "sysfs", source: "sysfs", options: [...flags, "ro"] },
    { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: flags },
    {
      destination: "/dev/shm",
      type: "tmpfs",
      source: "shm",
      options: [...flags, "mode=1777", "size=65536k"],
    },
  ];
}

function ociMount(mount: ContainerRoot["mounts"][number]): OciMount {
  const destination = textOfBytes(mount.target);
  if (mount.kind === "bind")
    return {
      destination,
      type: "bind",
      source: textOfBytes(mount.source),
      options: ["rbind", "rprivate", mount.readOnly ? "ro" : "rw"],
    };
  const size = mount.sizeBytes === undefined ? [] : [`size=${mount.sizeBytes}`];
  return {
    destination,
    type: "tmpfs",
    source: "tmpfs",
    options: ["nosuid", "nodev", `mode=${mount.mode.toString(8)}`, ...size],
  };
}
