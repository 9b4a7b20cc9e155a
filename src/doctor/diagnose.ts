/** From facts to findings. */
import type { Facts } from "./facts.ts";
import { diskFindings } from "./findings/disk.ts";
import { driverFindings } from "./findings/drivers.ts";
import { engineFindings } from "./findings/engines.ts";
import { type Finding, findingIds, type Severity } from "./findings/finding.ts";
import { layerFindings } from "./findings/layers.ts";
import { modprobeFindings } from "./findings/modprobe.ts";
import { nativeDiffFindings } from "./findings/native-diff.ts";
import { placeFindings } from "./findings/places.ts";
import { podmanFindings } from "./findings/podman.ts";
import { runtimeFindings } from "./findings/runtimes.ts";

const severities: readonly Severity[] = ["error", "warning", "note"];

/** Pure. The gravest first. */
export function diagnose(facts: Facts): Finding[] {
  const all = [
    ...nativeDiffFindings(facts),
    ...modprobeFindings(facts),
    ...driverFindings(facts),
    ...podmanFindings(facts),
    ...layerFindings(facts),
    ...diskFindings(facts),
    ...placeFindings(facts),
    ...engineFindings(facts),
    ...runtimeFindings(facts),
  ];
  const rank = ({ severity, id }: Finding): number => severities.indexOf(severity) * 1000 + findingIds.indexOf(id);
  return all.sort((a, b) => rank(a) - rank(b));
}

/** True when there is nothing but notes. */
export function isHealthy(findings: readonly Finding[]): boolean {
  return findings.every(({ severity }) => severity === "note");
}
