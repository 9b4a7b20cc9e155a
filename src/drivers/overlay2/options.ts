/**
 * Options of the overlay2 driver, and which mount options a layer gets.
 *
 * A layer written with `metacopy=on` can only be read with it, and likewise for redirects. So every layer remembers, in its
 * file `options`, the union of what it and all below it were written with; that union is what it is mounted with, whatever
 * the driver's options say today. A layer without the file (Docker made it) is mounted with all this host can.
 */
import { LamellaError } from "../../errors/lamella-error.ts";
import type { OverlayOptions } from "../driver.ts";

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

const known = ["overlay2.size", "overlay2.redirect_dir", "overlay2.metacopy"];

/** Errors: invalid_argument for an unknown option or value, failed_precondition for what the host cannot do. */
export function parseOverlay2Options(
  given: Readonly<Record<string, string>>,
  abilities: OverlayAbilities,
): Overlay2Options {
  for (const key of Object.keys(given)) {
    if (known.includes(key)) continue;
    throw new LamellaError("invalid_argument", "DRIVER_OPTION", `overlay2: unknown option ${key}`, {
      hint: `known are ${known.join(", ")}`,
    });
  }
  const redirectDir = onOff(given, "overlay2.redirect_dir", abilities.redirectDir, abilities);
  const metacopy = onOff(given, "overlay2.metacopy", abilities.metacopy && redirectDir, abilities);
  if (metacopy && !redirectDir)
    throw new LamellaError(
      "invalid_argument",
      "DRIVER_OPTION",
      "overlay2.metacopy=on needs overlay2.redirect_dir=on: the kernel couples them",
    );
  const size = given["overlay2.size"];
  return { redirectDir, metacopy, sizeBytes: size === undefined ? undefined : parseSize(size) };
}

function onOff(
  given: Readonly<Record<string, string>>,
  key: string,
  usual: boolean,
  abilities: OverlayAbilities,
): boolean {
  const value = given[key];
  if (value === undefined) return usual;
  if (value !== "on" && value !== "off")
    throw new LamellaError("invalid_argument", "DRIVER_OPTION", `${key}=${value}: the values are on and off`);
  if (value === "on" && !(key.endsWith("metacopy") ? abilities.metacopy : abilities.redirectDir))
    throw new LamellaError("failed_precondition", "DRIVER_OPTION", `${key}=on is not possible here`, {
      hint: abilities.userxattr ? "it needs root outside a user namespace" : "it needs a newer kernel",
    });
  return value === "on";
}

/** Docker's sizes: a number and an optional unit of 1024s (`10G`, `512mb`). */
function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?$/i.exec(text);
  if (!match)
    throw new LamellaError("invalid_argument", "DRIVER_OPTION", `overlay2.size=${text} is not a size such as 10G`);
  return Math.floor(Number(match[1]) * 1024 ** " kmgtp".indexOf((match[2] || " ").toLowerCase()));
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
