/**
 * Which marks the layers of a home may hold. fuse-overlayfs hides names by files `.wh.NAME`, too, and where no devices can be
 * made we unpack layers with such files: whoever reads these layers looks for one beside each name, which makes a first
 * lookup half as expensive again. A home in which there never was any says so:
 *
 *     <home>/.lamella/marks        `overlayfs`: the kernel's marks alone. `any`, or no file: those of fuse-overlayfs as well
 *
 * A new home says `overlayfs`. It says `any` before another program mounts something in it, and from when it is opened where no
 * devices can be made, for good.
 */
import { writeDurably } from "../../fs/durable-file.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { AT_FDCWD, S_IFCHR } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import { namesIn } from "../layer-folders.ts";
import { isLayerId } from "../layer-id.ts";
import { readSmallFile } from "../small-file.ts";

const OVERLAYFS = "overlayfs\n";
const ANY = "any\n";

/** To be called when a home is opened; its folders are there. `isOwn`: our own program is going to mount the layers. */
export function noteMarks(home: ByteString, { isOwn }: { readonly isOwn: boolean }): void {
  const said = readSmallFile(fileOf(home));
  if (said === ANY) return;
  if (!isOwn || !canMakeDevices(home)) writeDurably(fileOf(home), ANY);
  else if (said === undefined && !namesIn(home).some(isLayerId)) writeDurably(fileOf(home), OVERLAYFS);
}

/** True when layers may hold marks that are files. */
export function mayHaveFileMarks(home: ByteString): boolean {
  return readSmallFile(fileOf(home)) !== OVERLAYFS;
}

function fileOf(home: ByteString): ByteString {
  return `${home}/.lamella/marks`;
}

function canMakeDevices(home: ByteString): boolean {
  const trial = `${home}/.lamella/whiteout-${process.pid}`;
  const isMade = raw.mknodat(AT_FDCWD, trial, S_IFCHR, 0, 0) >= 0;
  if (isMade) raw.unlinkat(AT_FDCWD, trial);
  return isMade;
}
