/**
 * What the overlay module's parameters do to mounts that name no options of their own, as Docker's are (fs/overlayfs/params.c,
 * ovl_fs_params_verify): metacopy needs redirect_dir, and turns it on where the mount itself does not say.
 */
import type { Facts, OverlayFacts } from "../facts.ts";

export interface OverlayEffect {
  /** Renaming a directory of a lower layer leaves a redirect: this is what makes Docker give up native diffs. */
  readonly redirects: boolean;
  readonly metacopies: boolean;
}

type Parameters = Readonly<Record<string, string | undefined>>;

export function effectOf(parameters: Parameters): OverlayEffect {
  const metacopies = parameters.metacopy === "Y";
  return { redirects: metacopies || parameters.redirect_dir === "Y", metacopies };
}

/** Now, on a data root: what was seen there, else what the parameters say. Undefined: nobody can tell. */
export function effectNow({ overlay, roots }: Facts, root: string): OverlayEffect | undefined {
  const trial = roots[root]?.trial;
  if (trial !== undefined && trial.error === undefined) return trial;
  return "redirect_dir" in overlay.parameters ? effectOf(overlay.parameters) : undefined;
}

/** After a reboot; undefined when it cannot be told. */
export function effectAfterReboot({ afterReboot }: OverlayFacts): OverlayEffect | undefined {
  if (afterReboot.redirect_dir === undefined) return undefined;
  return effectOf({ redirect_dir: afterReboot.redirect_dir.value, metacopy: afterReboot.metacopy?.value });
}

/** Which of the two parameters is on. */
export function switchedOn(parameters: Parameters): string[] {
  return ["redirect_dir", "metacopy"].filter((name) => parameters[name] === "Y");
}
