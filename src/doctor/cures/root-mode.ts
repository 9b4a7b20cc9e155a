/** A data root that every user may enter. */
import type { Plan } from "./plan.ts";
import { dockerOf, type PlanRequest } from "./request.ts";

export async function planRootMode(request: PlanRequest): Promise<Plan> {
  const { facts, finding } = request;
  const { root } = dockerOf(request);
  const before = facts.roots[root]?.mode ?? "0711";
  return {
    schema: 1,
    id: finding.id,
    subject: finding.subject,
    summary: `Takes the right to enter ${root} from other users.`,
    steps: [{ kind: "change-mode", path: root, before, after: "0710" }],
    notes: [],
    byHand: [],
    before: finding.evidence,
  };
}
