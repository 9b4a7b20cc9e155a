/** Which planner is for which finding. */
import { LamellaError } from "../../errors/lamella-error.ts";
import type { Diagnosis } from "../doctor.ts";
import { type Finding, findingIds } from "../findings/finding.ts";
import { type CurableId, isCurable } from "./curable.ts";
import type { CureHost } from "./cure-host.ts";
import { planDriverChange } from "./driver-change.ts";
import { planOrphans } from "./orphans.ts";
import { planOverlayOptions } from "./overlay-options.ts";
import type { CureChoices, Plan } from "./plan.ts";
import { planPodmanOptions } from "./podman-options.ts";
import type { Planner } from "./request.ts";
import { planRootMode } from "./root-mode.ts";

const planners: Readonly<Record<CurableId, Planner>> = {
  "naive-diff-redirect-dir": planOverlayOptions,
  "naive-diff-metacopy": planOverlayOptions,
  "naive-diff-redirect-dir-and-metacopy": planOverlayOptions,
  "overlay-changed-since-start": planOverlayOptions,
  "overlay-changes-at-reboot": planOverlayOptions,
  "naive-diff-driver": planDriverChange,
  "vfs-fallback": planDriverChange,
  "loop-lvm": planDriverChange,
  "driver-deprecated": planDriverChange,
  "naive-diff-podman": planPodmanOptions,
  "naive-diff-podman-remembered": planPodmanOptions,
  "orphan-layers": planOrphans,
  "root-open-to-others": planRootMode,
};

/**
 * A plan for the finding of that id. Undefined when the host does not have it. Errors: invalid_argument for what is no id
 * (UNKNOWN_FINDING), unimplemented where there is no cure (NO_CURE_KNOWN), failed_precondition when several have it (SEVERAL),
 * and whatever its planner finds in the way.
 */
export async function planCure(
  { facts, findings }: Diagnosis,
  id: string,
  { host, choices }: { readonly host: CureHost; readonly choices: CureChoices },
): Promise<Plan | undefined> {
  if (!(findingIds as readonly string[]).includes(id))
    throw new LamellaError("invalid_argument", "UNKNOWN_FINDING", `${id} is no finding`, {
      hint: "`lamella doctor -q` lists the findings of this host",
    });
  const found = findings.filter((one) => one.id === id);
  const [finding, another] = found;
  if (finding === undefined) return undefined;
  if (!isCurable(finding.id)) throw noCure(finding);
  const planner = planners[finding.id];
  // That of the overlay module's options is one for all engines.
  if (another !== undefined && planner !== planOverlayOptions)
    throw new LamellaError(
      "failed_precondition",
      "SEVERAL",
      `${found.map(({ subject }) => subject).join(" and ")} have it`,
      {
        hint: "name one data root: `lamella doctor --only DIR --fix ID`",
      },
    );
  return planner({ facts, finding, host, choices });
}

function noCure({ id, cures }: Finding): LamellaError {
  return new LamellaError("unimplemented", "NO_CURE_KNOWN", `doctor cannot cure ${id}`, { hint: cures[0] });
}
