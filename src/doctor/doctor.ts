/**
 * `lamella doctor`: why is this host's container storage slow, or in danger? Reads, tries, judges; changes nothing.
 * How its halves fit together: ./facts.ts.
 */
import { collectFacts, type Instead } from "./collect/collect.ts";
import { diagnose, isHealthy } from "./diagnose.ts";
import type { Facts } from "./facts.ts";
import type { Finding } from "./findings/finding.ts";
import type { DoctorOptions } from "./options.ts";

/** What `lamella doctor --json` prints; docs/doctor.md describes it. */
export interface Diagnosis {
  /** Grows when a member changes its meaning or goes; new members may come any time. */
  readonly schema: 1;
  readonly healthy: boolean;
  /** The gravest first. */
  readonly findings: readonly Finding[];
  readonly facts: Facts;
}

/** Errors: canceled by the signal alone. */
export async function examine(options: DoctorOptions, instead?: Instead): Promise<Diagnosis> {
  const facts = await collectFacts(options, instead);
  const findings = diagnose(facts);
  return { schema: 1, healthy: isHealthy(findings), findings, facts };
}
