/** A small root directory made of this machine's busybox: what build and sandbox tests stand on. */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const busyboxPath = ["/bin/busybox", "/usr/bin/busybox"].find((path) => existsSync(path));

/** Why there can be no such root here; undefined when there can. */
export function busyboxMissing(): string | undefined {
  if (busyboxPath === undefined) return "busybox-static is not installed";
  return readFileSync(busyboxPath).includes("/lib64/ld-linux") ? `${busyboxPath} is not linked statically` : undefined;
}

const applets =
  "sh ls cat id true false echo grep sleep ps mount touch rm mv mkdir kill hostname ip wc chown chmod stat env sha256sum test pwd readlink head sort".split(
    " ",
  );

/** Fills the directory `root`, which is made. */
export function makeBusyboxRoot(root: string): void {
  for (const directory of ["bin", "etc", "tmp", "root", "home/bob"])
    mkdirSync(join(root, directory), { recursive: true });
  copyFileSync(busyboxPath ?? "", join(root, "bin/busybox"));
  for (const applet of applets) symlinkSync("busybox", join(root, "bin", applet));
  writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n");
  writeFileSync(join(root, "etc/group"), "root:x:0:\nwheel:x:10:bob\nbob:x:1000:\n");
}

/** A temporary directory that is removed on disposal, whatever is in it. */
export function temporaryDirectory(prefix: string): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), prefix));
  return { path, [Symbol.dispose]: () => void execFileSync("rm", ["-rf", path]) };
}
