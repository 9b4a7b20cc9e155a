/**
 * Options of the overlay2 driver, and which mount options a layer gets.
 *
 * A layer written with `metacopy=on` can only be read with it, and likewise for redirects. So every layer remembers, in its
 * file `options`, the union of what it and all below it were written with; that union is what it is mounted with, whatever
 * the driver's options say today. A layer without the file (Docker made it) is mounted with all this host can.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import type { OverlayOptions } from "../driver.ts";
import { optionError, readOptions } from "../option-values.ts";

/** What the host lets this driver do. Found out by a trial mount. */
export interface OverlayAbilities {
  /** In a user namespace: attributes are `user.overlay.*`, and neither redirects nor metacopy can be written. */
  readonly userxattr: boolean;
  readonly redirectDir: boolean;
  readonly metacopy: boolean;
  /** The kernel knows the option `index` (4.13). */
  readonly index: boolean;
}

export interface Overlay2Options {
  readonly redirectDir: boolean;
  readonly metacopy: boolean;
  /** Size limit of every new writable layer, in bytes. */
  readonly sizeBytes: number | undefined;
}

/** Errors: invalid_argument for an unknown option or value, failed_precondition for what the host cannot do. */
export function parseOverlay2Options(
  given: Readonly<Record<string, string>>,
  abilities: OverlayAbilities,
): Overlay2Options {
  const options = readOptions("overlay2", given);
  const redirectDir = options.onOff("overlay2.redirect_dir") ?? abilities.redirectDir;
  const metacopy = options.onOff("overlay2.metacopy") ?? (abilities.metacopy && redirectDir);
  if (redirectDir && !abilities.redirectDir) throw impossible("overlay2.redirect_dir=on", abilities);
  if (metacopy && !abilities.metacopy) throw impossible("overlay2.metacopy=on", abilities);
  if (metacopy && !redirectDir)
    throw optionError("overlay2.metacopy=on needs overlay2.redirect_dir=on: the kernel couples them");
  return { redirectDir, metacopy, sizeBytes: options.sizeBytes("overlay2.size") };
}

function impossible(option: string, { userxattr }: OverlayAbilities): LamellaError {
  return new LamellaError("failed_precondition", "DRIVER_OPTION", `${option} is not possible here`, {
    hint: userxattr ? "it needs root outside a user namespace" : "it needs a newer kernel",
  });
}

/** The content of a layer's file `options`: what it must be mounted with. */
export interface LayerNeeds {
  readonly redirectDir: boolean;
  readonly metacopy: boolean;
}

export function formatNeeds(needs: LayerNeeds): string {
  const on = (value: boolean): string => (value ? "on" : "off");
  return `redirect_dir=${on(needs.redirectDir)},metacopy=${on(needs.metacopy)}\n`;
}

/** What a layer needs by its file `options`; all that is possible when it has none. */
export function parseNeeds(text: string | undefined, abilities: OverlayAbilities): LayerNeeds {
  if (text === undefined) return { redirectDir: abilities.redirectDir, metacopy: abilities.metacopy };
  return { redirectDir: text.includes("redirect_dir=on"), metacopy: text.includes("metacopy=on") };
}

/** The mount options for a layer with these needs. */
export function mountOptions(needs: LayerNeeds, abilities: OverlayAbilities): OverlayOptions {
  const index = abilities.index ? "off" : undefined;
  if (abilities.userxattr) return { redirectDir: undefined, metacopy: undefined, index, userxattr: true };
  // `follow`, not `off`: a redirect some lower layer holds stays readable.
  const redirectDir = needs.redirectDir ? "on" : abilities.redirectDir ? "follow" : undefined;
  const metacopy = needs.metacopy ? "on" : abilities.metacopy ? "off" : undefined;
  return { redirectDir, metacopy, index, userxattr: false };
}
