import type { Command } from "commander";
import { LamellaError } from "../../errors/lamella-error.ts";
import type { Cli } from "../cli.ts";
import { mayMount } from "../privileges.ts";

export function define(command: Command, cli: Cli): void {
  command
    .argument("<container>")
    .addHelpText(
      "after",
      "\nPrints the path and nothing else. The mount stays until `lamella umount`. Without root it can only be seen inside a\n" +
        'user namespace: start one with `lamella unshare`.\n\nExample:\n  path=$(lamella mount "$id")',
    )
    .action(async (container: string) => {
      if (!mayMount()) throw mountWouldVanish(container);
      const engine = await cli.engine(command);
      const path = await engine.mount(container);
      if (cli.globals(command).json) cli.printJson({ path });
      else cli.print(path);
    });
}

function mountWouldVanish(container: string): LamellaError {
  return new LamellaError(
    "failed_precondition",
    "MOUNT_NEEDS_NAMESPACE",
    "without root a mount lives in a user namespace and would end with this command",
    { hint: `work in one namespace: lamella unshare sh -c 'cd "$(lamella mount ${container})" && exec sh'` },
  );
}
