/** No step touches the data of an engine that runs. */
import { LamellaError } from "../../errors/lamella-error.ts";
import { readMountInfo } from "../../fs/mountinfo.ts";
import { RootDir } from "../../fs/root-dir.ts";
import { bytesOfText } from "../../lib/bytes.ts";
import { keepDockerOut } from "../../migrate/docker-root/running-daemon.ts";
import { daemonProcesses } from "../collect/docker-processes.ts";
import type { CureHost } from "./cure-host.ts";

/**
 * Keeps dockerd from a data root until disposed. Errors: failed_precondition when one is at work on it (DOCKER_RUNNING), or
 * containers that outlived theirs have layers mounted (DOCKER_MOUNTED).
 */
export function withoutDocker(host: CureHost, root: string): Disposable {
  const path = host.view.at(root);
  const process = daemonProcesses(host.view).find((one) => (one.root ?? "/var/lib/docker") === root);
  if (process !== undefined)
    throw new LamellaError(
      "failed_precondition",
      "DOCKER_RUNNING",
      `dockerd (process ${process.pid}) runs on ${root}`,
      {
        hint: "stop it first: `systemctl stop docker.socket docker`",
      },
    );
  const inside = readMountInfo().find(({ mountPoint, type }) => isLayerMount(mountPoint, type, bytesOfText(path)));
  if (inside !== undefined)
    throw new LamellaError("failed_precondition", "DOCKER_MOUNTED", `a layer is mounted at ${inside.mountPoint}`, {
      hint: "a container runs without its daemon, or its mount was left behind: stop the container, or unmount it",
    });
  using opened = RootDir.open(bytesOfText(path));
  return keepDockerOut(opened, path);
}

function isLayerMount(mountPoint: string, type: string, root: string): boolean {
  return (
    mountPoint.startsWith(`${root}/`) && (type === "overlay" || /\/(merged|shm|(mnt|graph)\/[^/]+)$/.test(mountPoint))
  );
}
