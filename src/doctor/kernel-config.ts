/** What a kernel's .config says of overlayfs (fs/overlayfs/Kconfig). */

const parameterOf: Readonly<Record<string, string>> = {
  REDIRECT_DIR: "redirect_dir",
  REDIRECT_ALWAYS_FOLLOW: "redirect_always_follow",
  INDEX: "index",
  NFS_EXPORT: "nfs_export",
  XINO_AUTO: "xino_auto",
  METACOPY: "metacopy",
};

export interface OverlayDefaults {
  readonly overlay: "y" | "m" | "n";
  /** Module parameters and their defaults, `Y` or `N`. */
  readonly values: Readonly<Record<string, string>>;
}

/** Parses the text of a .config. An option the file does not mention is left out: that kernel does not know it. */
export function overlayDefaults(config: string): OverlayDefaults {
  const values: Record<string, string> = {};
  let overlay: OverlayDefaults["overlay"] = "n";
  for (const line of config.split("\n")) {
    const [, name, value] = /^(?:# )?CONFIG_OVERLAY_FS(?:_([A-Z_]+))?(?:=([ym])| is not set)$/.exec(line) ?? [];
    const parameter = parameterOf[name ?? ""];
    if (parameter !== undefined) values[parameter] = value === "y" ? "Y" : "N";
    else if (/^(# )?CONFIG_OVERLAY_FS[ =]/.test(line)) overlay = value === "y" || value === "m" ? value : "n";
  }
  return { overlay, values };
}
