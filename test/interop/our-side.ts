/**
 * Lamella's side of the interop tests: an engine on a store of its own that the tests' base image has been loaded into. Its
 * mounts are in a mount namespace of this process.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Engine } from "../../src/engine/engine.ts";
import type { BuildOptions } from "../../src/engine/options.ts";
import { type FlatTree, flatten } from "../support/flat-tree.ts";
import { type ArchivedImage, readOneImage } from "../support/image-archive.ts";
import { privateMounts } from "../support/overlay-lab.ts";

export type OurBuildOptions = Pick<BuildOptions, "context" | "file" | "buildArgs" | "target">;

const maxTarBytes = 512 * 1024 * 1024;

export class OurSide implements AsyncDisposable {
  readonly directory: string;
  readonly engine: Engine;

  private constructor(directory: string, engine: Engine) {
    this.directory = directory;
    this.engine = engine;
  }

  /** Opens an engine; the string says why there can be none. */
  static async open(): Promise<OurSide | string> {
    const mounts = privateMounts();
    if (mounts !== true) return mounts;
    const directory = mkdtempSync(join(tmpdir(), "lamella-interop-"));
    try {
      return new OurSide(directory, await Engine.open({ root: join(directory, "root"), driver: "overlay2" }));
    } catch (error) {
      execFileSync("rm", ["-rf", directory]);
      return `overlay2 does not run here: ${error instanceof Error ? error.message : error}`;
    }
  }

  /** Builds the image `name` as a user would, with nothing from the cache. */
  async build(name: string, options: OurBuildOptions): Promise<void> {
    const searchPath = (process.env.PATH ?? "").split(":");
    await this.engine.build({ tags: [name], network: "none", noCache: true, searchPath, ...options });
  }

  /** Loads an archive of one image and answers its ID. */
  async load(archive: Uint8Array): Promise<string> {
    const images = await this.engine.load({ input: once(archive) });
    if (images.length !== 1) throw new Error(`${images.length} images in an archive of one`);
    return String(images[0]?.id);
  }

  async saveDockerArchive(image: string): Promise<Buffer> {
    const chunks: Buffer[] = [];
    const output = async (chunk: Uint8Array): Promise<void> => void chunks.push(Buffer.from(chunk));
    await this.engine.save({ images: [image], output });
    return Buffer.concat(chunks);
  }

  /** The image as its docker archive has it. */
  async saved(image: string): Promise<ArchivedImage> {
    return readOneImage(await this.saveDockerArchive(image));
  }

  /** Makes an image of what a shell script does in the root directory of another. */
  async change(image: string, name: string, script: string): Promise<void> {
    const container = await this.engine.create({ image });
    try {
      const root = await this.engine.mount(container);
      execFileSync("sh", ["-euc", `umask 022; ${script}`], { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
      await this.engine.umount(container);
      await this.engine.commit(container, { name });
    } finally {
      await this.engine.removeContainer(container, { force: true });
    }
  }

  /** The tree of an image as the kernel shows it, read by GNU tar. */
  async mountedTree(image: string): Promise<FlatTree> {
    const container = await this.engine.create({ image });
    try {
      return treeOfDirectory(await this.engine.mount(container));
    } finally {
      await this.engine.removeContainer(container, { force: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
    execFileSync("rm", ["-rf", this.directory]);
  }
}

/** The tree below a directory, read by GNU tar with attributes of all kinds but those of mandatory access control. */
export function treeOfDirectory(directory: string): FlatTree {
  const attributes = ["--xattrs", "--xattrs-include=*", "--xattrs-exclude=security.selinux"];
  const args = ["-C", directory, "--format=posix", "--numeric-owner", ...attributes, "-cf", "-", "."];
  return flatten([execFileSync("tar", args, { maxBuffer: maxTarBytes })]);
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
