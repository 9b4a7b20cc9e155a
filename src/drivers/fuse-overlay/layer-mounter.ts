/** Who mounts the layers of fuse-overlay: our own servers (./own-servers.ts), or another program (./mount-program.ts). */
import { LamellaError } from "../../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";

/** It loads the directories of the roots before it is ready; this long means that it hangs. */
export const TIMEOUT_MS = 60_000;

/** Layers to mount, by paths relative to the home. */
export interface FuseLayers {
  /** The uppermost first. */
  readonly lowers: readonly ByteString[];
  readonly upper: ByteString | undefined;
  readonly work: ByteString | undefined;
  /** Programs that ask for it to be synced to disk are told that it was. */
  readonly volatile: boolean;
  /** They may hold marks that are files; see ./home-marks.ts. */
  readonly fileMarks: boolean;
}

export interface LayerMounter {
  /** What people are told: the path of the program. */
  readonly path: string;
  /** It understands redirects and metacopies, and writes them. */
  readonly redirects: boolean;
  /** Mounts layers at `target` (absolute) and returns when they can be used. Synchronous. Errors: failed_precondition with what it says. */
  mount(layers: FuseLayers, target: ByteString): void;
  /** Ends what waits for the next mount; what is mounted stays. */
  rest(): Promise<void>;
}

/** The value of `-o`. `further`: options as `name` or `name=value`. */
export function optionsOf({ lowers, upper, work, volatile }: FuseLayers, further: readonly string[]): string {
  const options = [`lowerdir=${lowers.join(":")}`, ...further];
  if (upper === undefined) options.push("ro");
  else options.push(`upperdir=${upper}`, `workdir=${work}`);
  if (volatile) options.push("volatile");
  return options.join(",");
}

export function couldNotMount(path: string, target: ByteString, why: string): LamellaError {
  const message = `${path} could not mount ${textOfBytes(target)}: ${why}`;
  return new LamellaError("failed_precondition", "FUSE_MOUNT", message, {
    hint: "`lamella info --why` shows what this driver needs",
  });
}
