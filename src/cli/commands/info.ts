import type { Command } from "commander";
import type { DriverReport } from "../../drivers/open-driver.ts";
import type { EngineInfo } from "../../engine/options.ts";
import type { Cli } from "../cli.ts";
import { versionOfPackage } from "../package-version.ts";
import { prepareRoot } from "../prepare-root.ts";
import { storageOptionsHelp } from "../storage-options-help.ts";
import { stdoutStyle } from "../style.ts";

export function define(command: Command, cli: Cli): void {
  command
    .option("--why", "also every question put to this host, with its answer, the reason and the remedy")
    .addHelpText("after", () => `\n${storageOptionsHelp()}\nExample:\n  lamella info --why`)
    .action(async ({ why = false }: { why?: boolean }) => {
      await cli.enterUserNamespace(command);
      const { driverReports, engineInfo } = await import("../../engine/info.ts");
      const { root, driver, driverOptions, json } = cli.globals(command);
      prepareRoot(root);
      const options = { root, driver, driverOptions };
      const drivers = why ? await driverReports(options) : undefined;
      try {
        const info = await engineInfo(options);
        if (json) return cli.printJson({ version: versionOfPackage(), ...info, drivers });
        cli.write(render(info));
      } finally {
        // Also when there is no driver: that is when the reasons are wanted most.
        if (drivers !== undefined && !json) cli.write(renderReports(drivers));
      }
    });
}

/** In the form of `docker info`: sections indented by one space, their lines by two. */
function render({ root, driver, status, details, host }: EngineInfo): string {
  const lines = ["Lamella:", ` Version: ${versionOfPackage()}`, ` Storage Driver: ${driver}`];
  for (const [key, value] of status) lines.push(`  ${key}: ${value}`);
  const parameters = details.filter(([key]) => key.startsWith("Module "));
  for (const [key, value] of details) if (!key.startsWith("Module ")) lines.push(` ${key}: ${value}`);
  if (parameters.length > 0) lines.push(" Overlay Module Parameters:");
  for (const [key, value] of parameters) lines.push(`  ${key.slice("Module ".length)}: ${value}`);
  lines.push(` Kernel Version: ${host.kernel}`, ` Architecture: ${host.machine}`);
  if (host.userNamespace !== undefined) {
    const ids = host.userNamespace.uids.reduce((sum, { count }) => sum + count, 0);
    lines.push(
      ` User Namespace: ${ids === 1 ? "1 user ID (files of other owners cannot be stored)" : `${ids} user IDs`}`,
    );
  }
  lines.push(` Lamella Root Dir: ${root}`);
  return `${lines.join("\n")}\n`;
}

function renderReports(drivers: readonly DriverReport[]): string {
  const style = stdoutStyle();
  let text = "";
  for (const { name, reason, probes } of drivers) {
    text += `\nWhy ${style.bold(name)}:\n ${reason}\n`;
    for (const { name: question, ok, reason: seen, remedy, required } of probes) {
      const answer = ok ? style.green("yes") : required ? style.red("no, and it is required") : style.yellow("no");
      text += ` ${question}: ${answer}\n  ${seen}\n`;
      if (!ok && remedy !== undefined) text += `  ${style.cyan("remedy:")} ${remedy}\n`;
    }
  }
  return text;
}
