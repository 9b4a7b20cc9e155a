/** Layer directories that nothing refers to: out of the driver's directory, and removed at the end. */
import { orphanDirectories } from "../collect/docker-data.ts";
import type { Plan } from "./plan.ts";
import { cannot, dockerOf, downtimeOf, enginesOf, type PlanRequest, whileStopped } from "./request.ts";

export async function planOrphans(request: PlanRequest): Promise<Plan> {
  const { finding, host } = request;
  const docker = dockerOf(request);
  const { root, data } = docker;
  const into = `${root}/lamella-doctor-orphans`;
  const directories = orphanDirectories(host.view, root, data?.driver);
  if (directories.length === 0) throw cannot("NO_ORPHANS", `${root} has no orphaned layers any more`);
  const paths = directories.flatMap((path) => [path, ...shortNames(request, root, path)]);
  const engines = await enginesOf(host, [docker]);
  const moves = paths.map((path) => ({ from: `${root}/${path}`, to: `${into}/${path}` }));
  return {
    schema: 1,
    id: finding.id,
    subject: finding.subject,
    summary: `Moves ${directories.length} directories that nothing refers to out of Docker's way, within ${root}; their space is free after --finish.`,
    steps: whileStopped(engines, [{ kind: "set-aside", root, into, moves, remove: true }]),
    notes: [],
    byHand: [],
    ...downtimeOf(engines, 0),
    before: finding.evidence,
  };
}

/** overlay2: the link that leads to a layer goes with it. */
function shortNames({ host }: PlanRequest, root: string, path: string): string[] {
  const [folder, id] = path.split("/");
  const link = folder === "overlay2" ? host.view.text(`${root}/${path}/link`)?.trim() : undefined;
  if (link === undefined || !/^[A-Z0-9]{26}$/.test(link)) return [];
  return host.view.link(`${root}/overlay2/l/${link}`) === `../${id}/diff` ? [`overlay2/l/${link}`] : [];
}
