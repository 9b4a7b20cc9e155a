/** Findings about how engines are set up, beside storage drivers: the builder, and user namespaces. */
import type { DockerFacts, Facts } from "../facts.ts";
import type { Evidence, Finding } from "./finding.ts";
import { infoCommand, statusOf, subjectOf } from "./subject.ts";

export function engineFindings(facts: Facts): Finding[] {
  return [...facts.docker.flatMap(classicBuilder), ...userNamespaces(facts)];
}

/** Since 23.0 `docker build` uses BuildKit; before, when it is asked for. */
function classicBuilder(docker: DockerFacts): Finding[] {
  const major = Number.parseInt(docker.version ?? "", 10);
  if (!docker.running || Number.isNaN(major) || major >= 23 || docker.buildkit === true) return [];
  return [
    {
      id: "classic-builder",
      severity: "note",
      subject: subjectOf(docker),
      sentence:
        "`docker build` uses the classic builder, which does one step after another and makes a layer of each, ENV and LABEL aside.",
      evidence: [
        { source: infoCommand(docker), said: `Server Version: ${docker.version}` },
        { source: "daemon.json", said: "features.buildkit is not set" },
      ],
      cost: "Stages that could be built at the same time wait for each other, unused ones are built too, and nothing is cached between builds but layers",
      cures: [
        'use BuildKit: `DOCKER_BUILDKIT=1 docker build`, or `"features": {"buildkit": true}` in /etc/docker/daemon.json; it is the default since Docker 23.0. How changes of a step are found stays the same: a naive diff is slow with either',
      ],
    },
  ];
}

/** Engines without root need user namespaces. */
function userNamespaces({ host, docker, podman }: Facts): Finding[] {
  const { maxUserNamespaces, unprivilegedUserNamespaces } = host;
  const why: Evidence[] = [];
  if (maxUserNamespaces === 0) why.push({ source: "/proc/sys/user/max_user_namespaces", said: "0" });
  if (unprivilegedUserNamespaces === false)
    why.push({ source: "/proc/sys/kernel/unprivileged_userns_clone", said: "0" });
  const rootless = [
    ...podman.filter((one) => one.rootless).map(({ root }) => `podman (${root})`),
    ...docker.filter((one) => statusOf(one, "userxattr") === "true").map(subjectOf),
  ];
  if (why.length === 0 || rootless.length === 0) return [];
  return [
    {
      id: "user-namespaces-off",
      severity: "error",
      subject: rootless.join(", "),
      sentence: "Containers without root cannot start: this kernel has been told to make no user namespaces for users.",
      evidence: why,
      cost: "podman and Docker without root fail (`cannot clone: No space left on device`, `Operation not permitted`)",
      cures: [
        "`sysctl -w user.max_user_namespaces=28633 kernel.unprivileged_userns_clone=1` (those of the two that there are), and the same in /etc/sysctl.d for good",
        "or run these containers as root",
      ],
    },
  ];
}
