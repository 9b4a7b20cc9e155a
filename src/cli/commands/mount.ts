import { spawnSync } from "node:child_process";
import type { Command } from "commander";
import { ownCommand } from "../../drivers/fuse-overlay/own-command.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import type { Cli } from "../cli.ts";
import { ExitRequest } from "../exit-request.ts";
import { mayMount } from "../privileges.ts";
import { usageError } from "../usage-error.ts";

interface MountOptions {
  readonly type?: string;
  readonly option?: string;
}

export function define(command: Command, cli: Cli): void {
  command
    .argument("<container>", "or, with --type, the source")
    .argument("[mountpoint]", "with --type: where to mount; alone it is the only argument")
    .option("-t, --type <type>", "fuse: mount layers of your own at a directory, as lamella-overlay does")
    .option(
      "-o, --option <options>",
      "with --type: lowerdir, upperdir and so on; `lamella-overlay --help` has them all",
    )
    .addHelpText(
      "after",
      "\nPrints the path and nothing else. The mount stays until `lamella umount`. Without root it can only be seen inside a\n" +
        'user namespace: start one with `lamella unshare`.\n\nExample:\n  path=$(lamella mount "$id")\n' +
        "  lamella mount -t fuse -o lowerdir=/b:/a,upperdir=/upper,workdir=/work /merged",
    )
    .action(async (container: string, mountpoint: string | undefined, options: MountOptions) => {
      if (options.type !== undefined || options.option !== undefined) {
        mountLayers(options, mountpoint === undefined ? [container] : [container, mountpoint]);
        return;
      }
      if (mountpoint !== undefined)
        throw usageError("a container is mounted where its driver mounts it", "give no mount point");
      if (!mayMount()) throw mountWouldVanish(container);
      const engine = await cli.engine(command);
      const path = await engine.mount(container);
      if (cli.globals(command).json) cli.printJson({ path });
      else cli.print(path);
    });
}

/** Has lamella-overlay mount them: it stays behind, and serves the mount. */
function mountLayers({ type, option = "" }: MountOptions, places: readonly string[]): void {
  if (type !== "fuse") throw usageError(`--type ${type ?? ""} is not known`, "give --type fuse");
  const [program, ...words] = ownCommand();
  const { status, error } = spawnSync(program, [...words, "-o", option, ...places], { stdio: "inherit" });
  if (error !== undefined) throw error;
  if (status !== 0) throw new ExitRequest(status ?? 1);
}

function mountWouldVanish(container: string): LamellaError {
  return new LamellaError(
    "failed_precondition",
    "MOUNT_NEEDS_NAMESPACE",
    "without root a mount lives in a user namespace and would end with this command",
    { hint: `work in one namespace: lamella unshare sh -c 'cd "$(lamella mount ${container})" && exec sh'` },
  );
}
