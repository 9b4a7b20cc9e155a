/** How findings name what they are about. */
import type { DockerFacts } from "../facts.ts";

export function subjectOf({ root, version }: DockerFacts): string {
  return `Docker${version === undefined ? "" : ` ${version}`} (${root})`;
}

/** `docker info`, with the socket where it is not the usual one. */
export function infoCommand({ socket }: DockerFacts): string {
  const isUsual = socket === undefined || socket === "/run/docker.sock" || socket === "/var/run/docker.sock";
  return isUsual ? "docker info" : `docker -H unix://${socket} info`;
}

export function statusOf({ status }: DockerFacts, key: string): string | undefined {
  return status.find(([name]) => name === key)?.[1];
}
