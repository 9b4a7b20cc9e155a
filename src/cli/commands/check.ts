import type { Command } from "commander";
import type { Cli } from "../cli.ts";

interface Options {
  readonly deep?: boolean;
  readonly repair?: boolean;
}

export function define(command: Command, cli: Cli): void {
  command
    .option("--deep", "also read all data and compare every layer's digest")
    .option("--repair", "delete what nothing refers to, drop records of what is lost")
    .addHelpText("after", "\nExits 1 when something is wrong and not repaired.\n\nExample:\n  lamella check --deep")
    .action(async ({ deep = false, repair = false }: Options) => {
      const engine = await cli.engine(command);
      const { json, quiet } = cli.globals(command);
      const report = await engine.check({ deep, repair, signal: cli.signal });
      if (report.findings.some(({ repaired }) => !repaired)) cli.exitStatus = 1;
      if (json) return cli.printJson(report);
      for (const { kind, subject, message, repaired } of report.findings) {
        cli.print(`${repaired ? "repaired" : "found"} ${kind} ${subject}: ${message}`);
      }
      const { findings, layers, images, blobs } = report;
      const wrong = findings.length === 1 ? "1 finding" : `${findings.length} findings`;
      if (!quiet)
        cli.print(
          `${layers} layers, ${images} images, ${blobs} blobs: ${findings.length === 0 ? "all is well" : wrong}`,
        );
    });
}
