import type { Command } from "commander";
import type { EngineInfo } from "../../engine/options.ts";
import type { Cli } from "../cli.ts";
import { versionOfPackage } from "../package-version.ts";
import { prepareRoot } from "../prepare-root.ts";
import { stdoutStyle } from "../style.ts";

export function define(command: Command, cli: Cli): void {
  command
    .option("--why", "also every question put to this host, with its answer, the reason and the remedy")
    .addHelpText("after", "\nExample:\n  lamella info --why")
    .action(async ({ why = false }: { why?: boolean }) => {
      await cli.enterUserNamespace(command);
      const { engineInfo } = await import("../../engine/info.ts");
      const { root, driver, driverOptions, json } = cli.globals(command);
      prepareRoot(root);
      const info = await engineInfo({ root, driver, driverOptions, probes: why });
      if (json) return cli.printJson({ version: versionOfPackage(), ...info });
      cli.write(render(info));
      if (info.probes !== undefined) cli.write(renderProbes(info.probes));
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

function renderProbes(probes: NonNullable<EngineInfo["probes"]>): string {
  const style = stdoutStyle();
  let text = "";
  for (const [driver, results] of Object.entries(probes)) {
    text += `\nWhy ${style.bold(driver)}:\n`;
    for (const { name, ok, reason, remedy, required } of results) {
      const answer = ok ? style.green("yes") : required ? style.red("no, and it is required") : style.yellow("no");
      text += ` ${name}: ${answer}\n  ${reason}\n`;
      if (!ok && remedy !== undefined) text += `  ${style.cyan("remedy:")} ${remedy}\n`;
    }
  }
  return text;
}
