/**
 * Whiteouts of the upper layer: devices 0:0, all of them links of one in the work directory. Where none can be made (on
 * another union, which takes them for its own; in a user namespace before Linux 5.8; where a server allows no devices), a
 * whiteout is an empty regular file with the attribute `whiteout`, in a directory with the attribute `opaque` = "x", which is
 * what the kernel (6.7) understands in lower layers.
 */
import { SyscallError } from "../../errors/syscall-error.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { knowsFileMarks, markName } from "../../overlayfs/layer-marks.ts";
import { isWhiteoutDevice } from "../../overlayfs/layer-stack.ts";
import * as C from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import { sharedWhiteout as shared } from "./shared-whiteout.ts";
import type { At, Union } from "./union.ts";

const EPERM = 1;
const ENOENT = 2;
const EMLINK = 31;
const yes = Buffer.from("y");
const inDirectory = Buffer.from("x");

export function isWhiteout(union: Union, [fd, name]: At): boolean {
  const stat = raw.statx(fd, name);
  if (typeof stat === "number") return false;
  if (isWhiteoutDevice(stat)) return true;
  if (!union.nodes.xattrWhiteouts || (stat.mode & C.S_IFMT) !== C.S_IFREG || stat.size > 0) return false;
  return sys.lgetxattrat(fd, name, union.mark("whiteout")) !== undefined;
}

/**
 * Takes a `.wh.` file away that hides a name which is about to appear, in a union that takes these for marks. True when there
 * was one: a directory of the name then has to hide what lies below.
 */
export function unhide(union: Union, directory: number, name: ByteString): boolean {
  return knowsFileMarks(union.options.marks) && raw.unlinkat(directory, markName + name) >= 0;
}

/**
 * Makes a whiteout of a new name; it is going to be in `directory`. File systems that allow no more links get a new shared
 * one.
 */
export function makeWhiteout(union: Union, [fd, name]: At, directory: number): void {
  const { xattrWhiteouts } = union.nodes;
  const work = union.workFd;
  if (xattrWhiteouts && sys.lgetxattrat(directory, ".", union.mark("opaque")) === undefined)
    sys.lsetxattrat(directory, ".", union.mark("opaque"), inDirectory);
  for (let tries = 0; ; tries++) {
    const r = raw.linkat(work, shared, fd, name);
    if (r >= 0) return;
    if (tries === 1 || (r !== -ENOENT && r !== -EMLINK && r !== -EPERM)) throw new SyscallError("linkat", -r);
    raw.unlinkat(work, shared);
    if (!xattrWhiteouts) sys.mknodat(work, shared, C.S_IFCHR, 0, 0);
    else {
      sys.mknodat(work, shared, C.S_IFREG, 0, 0);
      sys.lsetxattrat(work, shared, union.mark("whiteout"), yes);
    }
  }
}
