/**
 * `doctor --measure`: what it costs on this host to find out what a build step changed. A small step on a tree, diffed natively and
 * naively on the data root's file system; the same kind of steps built by the daemon as it is set up; and from both, what
 * a step on each of the user's own images costs.
 *
 *     <data root>/.lamella-measure-<random>/    all that is written, but for images given to the daemon; both go again
 */
import { rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mayMount } from "../../drivers/overlay2/trial.ts";
import { isLamellaError, LamellaError, throwIfAborted } from "../../errors/lamella-error.ts";
import { fileSystemName } from "../../fs/file-system-name.ts";
import { TempDir } from "../../fs/temp-dir.ts";
import { type ByteString, bytesOfText, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import type { DockerFacts } from "../facts.ts";
import { statusOf } from "../findings/subject.ts";
import { type DiffTimes, timeDiffs } from "./diff-times.ts";
import { type BuildTime, timeBuild } from "./docker-build.ts";
import { type CountedImage, countImages, exportImage, layersOfImage } from "./docker-images.ts";
import { makeTree } from "./make-tree.ts";

export interface MeasureOptions {
  /** A directory on the file system in question: a data root. */
  readonly root: string;
  /** The daemon of that root, if one answers. */
  readonly docker?: DockerFacts | undefined;
  /** An image of the daemon, or an absolute path of a directory; default: a made tree. */
  readonly image?: string | undefined;
  /** Of the made tree. */
  readonly entries: number;
  /** `leave out`: nothing is given to the daemon, and it builds nothing. */
  readonly build?: "leave out" | undefined;
  /** Writes the tree of an image of somebody else's to a directory that is not there yet; false: no such image. */
  readonly writeImage?: ((image: string, directory: string) => Promise<boolean>) | undefined;
  readonly onProgress?: ((what: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What `lamella doctor --measure --json` prints. Times are milliseconds. */
export interface MeasureReport {
  readonly schema: 1;
  /** Where it was measured. */
  readonly directory: string;
  readonly fileSystem: string;
  readonly engine?: {
    readonly version?: string;
    readonly driver?: string;
    /** How the daemon diffs now; undefined where it does not say and its driver does not tell. */
    readonly diff?: "native" | "naive";
  };
  readonly tree: { readonly kind: "made" | "image" | "directory"; readonly name: string; readonly entries: number };
  readonly diff: DiffTimes;
  /** Medians of `diff`. */
  readonly nativeMs: number;
  readonly naiveMs: number;
  /** naiveMs / nativeMs. */
  readonly ratio: number;
  readonly build?: BuildTime;
  /** The user's images, the largest first, with what finding a step's changes on each costs by these figures. */
  readonly images: readonly (CountedImage & { readonly nativeMs: number; readonly naiveMs: number })[];
  /** What could not be measured, and why. */
  readonly notes: readonly string[];
}

/** Docker's drivers that know no other way. */
const naiveDrivers: ReadonlySet<string> = new Set(["zfs", "btrfs", "vfs", "devicemapper", "fuse-overlayfs", "overlay"]);

/** Docker sleeps to the next full second after a naive diff (moby, graphdriver/fsdiff.go), half a second on average. */
export const naiveSleepMs = 500;

/** Errors: not_found for an image nobody has; those of the file system; canceled. Nothing is left behind. */
export async function measure(options: MeasureOptions): Promise<MeasureReport> {
  const { docker, signal, onProgress = () => undefined } = options;
  const notes: string[] = [];
  using workspace = workspaceIn(options.root, notes);
  const at = workspace.path;
  const { lowers, ...tree } = await prepareTree(options, at, notes);
  const diff = await timeDiffs({ workspace: at, lowers, onProgress, signal });
  if (diff.whyPlain !== undefined)
    notes.push(`compared as plain copies, as Docker's drivers vfs, btrfs and zfs do: ${diff.whyPlain}`);
  const nativeMs = median(diff.nativeMs);
  const naiveMs = median(diff.naiveMs);
  const build = await buildWith(options, { at, lowers, isDockers: tree.isDockers }, notes);
  const counted = await imagesOf(options, notes);
  const perEntryMs = naiveMs / diff.entries;
  return {
    schema: 1,
    directory: textOfBytes(at),
    fileSystem: fileSystemName(sys.statfs(at).type),
    ...(docker !== undefined && { engine: engineOf(docker) }),
    tree: { kind: tree.kind, name: tree.name, entries: diff.entries },
    diff,
    nativeMs,
    naiveMs,
    ratio: naiveMs / nativeMs,
    ...(build !== undefined && { build }),
    images: counted.map((one) => ({ ...one, nativeMs, naiveMs: one.entries * perEntryMs })),
    notes,
  };
}

/** In the data root where that may be, else in the place for temporary files. */
function workspaceIn(root: string, notes: string[]): TempDir {
  const prefix = ".lamella-measure-";
  try {
    return new TempDir(bytesOfText(root), prefix);
  } catch (error) {
    if (!isLamellaError(error, "permission_denied", "not_found")) throw error;
    const instead = tmpdir();
    notes.push(
      `measured in ${instead}: in ${root} ${error.kind === "not_found" ? "there is nothing" : "only root may write"}`,
    );
    return new TempDir(bytesOfText(instead), prefix);
  }
}

interface PreparedTree {
  readonly kind: MeasureReport["tree"]["kind"];
  readonly name: string;
  /** The daemon has it as an image of this name. */
  readonly isDockers: boolean;
  readonly lowers: readonly ByteString[];
}

async function prepareTree(options: MeasureOptions, at: ByteString, notes: string[]): Promise<PreparedTree> {
  const { image, entries, docker, writeImage, signal, onProgress = () => undefined } = options;
  const tree = `${at}/tree`;
  if (image === undefined) {
    sys.mkdirat(AT_FDCWD, tree, 0o755);
    const tell = (made: number): void => onProgress(`making a tree: ${made} of ${entries} entries`);
    await makeTree(tree, { entries, signal, onProgress: tell });
    return { kind: "made", name: "a made tree", isDockers: false, lowers: [tree] };
  }
  if (image.startsWith("/")) {
    if (!statSync(image).isDirectory())
      throw new LamellaError("invalid_argument", "NOT_A_DIRECTORY", `${image} is not a directory`);
    return { kind: "directory", name: image, isDockers: false, lowers: [bytesOfText(image)] };
  }
  onProgress(`reading the image ${image}`);
  const lowers = await dockersLayers(options, image, { tree, workspace: at }, notes);
  if (lowers !== undefined) return { kind: "image", name: image, isDockers: true, lowers };
  if ((await writeImage?.(image, textOfBytes(tree))) === true)
    return { kind: "image", name: image, isDockers: false, lowers: [tree] };
  throw new LamellaError("not_found", "NO_IMAGE", `${image}: no such image`, {
    hint:
      docker?.socket === undefined
        ? "no Docker answers; a directory is named by its path"
        : "`docker images` lists them",
  });
}

/** Undefined when the daemon has no such image. Layers that may not be read are exported. */
async function dockersLayers(
  { docker, signal }: MeasureOptions,
  image: string,
  { tree, workspace }: { readonly tree: ByteString; readonly workspace: ByteString },
  notes: string[],
): Promise<readonly ByteString[] | undefined> {
  const socket = docker?.socket;
  if (socket === undefined) return undefined;
  let lowers: readonly ByteString[] | undefined;
  try {
    lowers = await layersOfImage(socket, image, signal);
  } catch (error) {
    if (isLamellaError(error, "unavailable")) return undefined;
    throw error;
  }
  // Several layers make one tree only where they can be mounted.
  if (lowers?.every(isReadable) && (lowers.length === 1 || mayMount())) return lowers;
  notes.push(
    "the image was exported and unpacked to be measured, as its layers are not plain directories for us to read",
  );
  sys.mkdirat(AT_FDCWD, tree, 0o755);
  await exportImage(socket, image, { root: tree, workspace, ...(signal && { signal }) });
  return [tree];
}

function isReadable(directory: ByteString): boolean {
  try {
    return sys.statx(AT_FDCWD, directory) !== undefined;
  } catch {
    return false;
  }
}

async function buildWith(
  { docker, image, build, signal, onProgress = () => undefined }: MeasureOptions,
  {
    at,
    lowers,
    isDockers,
  }: { readonly at: ByteString; readonly lowers: readonly ByteString[]; readonly isDockers: boolean },
  notes: string[],
): Promise<BuildTime | undefined> {
  if (build === "leave out") return undefined;
  if (docker?.socket === undefined) {
    notes.push("no build was timed: no dockerd answers for this data root");
    return undefined;
  }
  const [only] = lowers;
  if (!isDockers && (only === undefined || lowers.length > 1)) return undefined;
  const base = isDockers && image !== undefined ? { image } : { tree: only ?? at };
  try {
    return await timeBuild({ socket: docker.socket, base, workspace: at, onProgress, signal });
  } catch (error) {
    throwIfAborted(signal);
    notes.push(`no build was timed: ${(error as Error).message}`);
    return undefined;
  } finally {
    rmSync(join(textOfBytes(at), "tree.tar"), { force: true });
  }
}

async function imagesOf(
  { docker, signal, onProgress = () => undefined }: MeasureOptions,
  notes: string[],
): Promise<readonly CountedImage[]> {
  if (docker?.socket === undefined) return [];
  try {
    const counted = await countImages(docker.socket, { onProgress, signal });
    if (counted.length === 0)
      notes.push("your own images are not reckoned: there are none whose layers are plain directories");
    return counted;
  } catch (error) {
    throwIfAborted(signal);
    const isForRoot = isLamellaError(error, "permission_denied", "not_found");
    notes.push(
      `your own images are not reckoned: ${isForRoot ? "their layers are for root to read" : (error as Error).message}`,
    );
    return [];
  }
}

function engineOf(docker: DockerFacts): NonNullable<MeasureReport["engine"]> {
  const { version, driver, containerdStore } = docker;
  const said = statusOf(docker, "Native Overlay Diff");
  const isNaive = said === undefined ? !containerdStore && naiveDrivers.has(driver ?? "") : said === "false";
  const diff = isNaive ? "naive" : said === "true" ? "native" : undefined;
  return {
    ...(version !== undefined && { version }),
    ...(driver !== undefined && { driver }),
    ...(diff !== undefined && { diff }),
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
}
