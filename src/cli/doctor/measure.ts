import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { EvidenceFlags } from "./evidence-options.ts";
export async function runMeasure(
  _cli: Cli,
  _command: Command,
  _flags: EvidenceFlags,
  _roots: readonly string[],
): Promise<void> {}
