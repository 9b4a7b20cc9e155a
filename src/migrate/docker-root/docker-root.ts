/**
 * Docker's data root (`/var/lib/docker`), opened while no dockerd works on it. docs/formats/docker-root.md draws it.
 *
 * Everything beneath the root is reached through its descriptor and through no symbolic link, but for the driver's own
 * directory, which people do move to another disk.
 */
import { existsSync, readdirSync, realpathSync, statSync } from "node:fs";
import type { OwnerOffset } from "../../diff/layer-tar.ts";
import type { OverlayXattrPrefix } from "../../diff/source.ts";
import { inUserNamespace } from "../../drivers/overlay2/trial.ts";
import { LamellaError } from "../../errors/lamella-error.ts";
import { hasCode } from "../../errors/syscall-error.ts";
import { RootDir } from "../../fs/root-dir.ts";
import { type ByteString, bytesOfText } from "../../lib/bytes.ts";
import { Disposables } from "../../lib/disposables.ts";
import type { ChainId, Digest } from "../../oci/digest.ts";
import { type DockerContainer, type DockerImage, readContainer, readImageDb } from "./image-db.ts";
import { type DockerLayer, type DockerMount, type DockerProblem, readLayerDb } from "./layer-db.ts";
import { isDockerRunning, keepDockerOut, refuseMounts } from "./running-daemon.ts";
import { type DockerTrees, treesOf } from "./trees.ts";

export interface OpenDockerRootOptions {
  readonly path: string;
  /** Docker's storage driver; default: the only one with images. */
  readonly driver?: string | undefined;
  /** True: only look, also while dockerd runs. */
  readonly lookOnly?: boolean | undefined;
}

export class DockerRoot implements Disposable {
  /** Absolute path of the root, of the remapped one where there is. */
  readonly path: string;
  readonly driver: string;
  readonly root: RootDir;
  readonly trees: DockerTrees;
  /** Absolute path of the driver's directory. */
  readonly home: ByteString;
  /** Owner of container root on the host, for a dockerd with `--userns-remap`. */
  readonly owners: OwnerOffset | undefined;
  /** dockerd is at work; only with `lookOnly`. */
  readonly isRunning: boolean;
  readonly #resources: Disposables;

  private constructor(parts: {
    readonly path: string;
    readonly driver: string;
    readonly root: RootDir;
    readonly home: ByteString;
    readonly owners: OwnerOffset | undefined;
    readonly isRunning: boolean;
    readonly resources: Disposables;
  }) {
    this.path = parts.path;
    this.driver = parts.driver;
    this.root = parts.root;
    this.home = parts.home;
    this.owners = parts.owners;
    this.isRunning = parts.isRunning;
    this.#resources = parts.resources;
    const trees = treesOf[parts.driver];
    if (trees === undefined) throw unknownDriver(parts.driver);
    this.trees = trees(parts.home, overlayPrefix());
  }

  /**
   * Opens a root that holds images. Errors: not_found when there is none; failed_precondition when dockerd runs (DOCKER_RUNNING), layers are mounted,
   * or several drivers have images and none is named; unimplemented for a driver whose layers cannot be read.
   */
  static open({ path: given, driver: wanted, lookOnly = false }: OpenDockerRootOptions): DockerRoot {
    const { path, owners } = findDockerRoot(given);
    const driver = wanted ?? onlyDriver(path);
    if (treesOf[driver] === undefined) throw unknownDriver(driver);
    const home = realPath(`${path}/${driver}`);
    if (home === undefined || !existsSync(`${path}/image/${driver}`)) throw noImages(path, driver);
    using resources = new Disposables();
    const root = resources.use(RootDir.open(bytesOfText(path)));
    const isRunning = lookOnly && isDockerRunning(root, path);
    if (!lookOnly) {
      resources.use(keepDockerOut(root, path));
      refuseMounts(bytesOfText(home));
    }
    return new DockerRoot({
      path,
      driver,
      root,
      home: bytesOfText(home),
      owners,
      isRunning,
      resources: resources.move(),
    });
  }

  /** The same as bytes. */
  get rootPath(): ByteString {
    return bytesOfText(this.path);
  }

  /** Path of the driver's metadata beneath the root. */
  get imageBase(): string {
    return `image/${this.driver}`;
  }

  /** Reads what there is. What cannot be read is told in `problems`. */
  read(): DockerContents {
    const { layers, mounts, problems: layerProblems } = readLayerDb(this.root, `${this.imageBase}/layerdb`);
    const { images, problems: imageProblems } = readImageDb(this.root, this.imageBase);
    const problems = [...layerProblems, ...imageProblems];
    const containers: (DockerContainer & { readonly mount: DockerMount })[] = [];
    for (const mount of mounts.values()) {
      try {
        const container = readContainer(this.root, mount.containerId);
        if (container !== undefined) containers.push({ ...container, mount });
      } catch (error) {
        if (!(error instanceof LamellaError)) throw error;
        problems.push({ subject: mount.containerId, message: error.message });
      }
    }
    return { layers, images, containers, problems };
  }

  [Symbol.dispose](): void {
    this.#resources[Symbol.dispose]();
  }
}

/** What a root holds. */
export interface DockerContents {
  readonly layers: ReadonlyMap<ChainId, DockerLayer>;
  readonly images: ReadonlyMap<Digest, DockerImage>;
  readonly containers: readonly (DockerContainer & { readonly mount: DockerMount })[];
  readonly problems: readonly DockerProblem[];
}

const remapped = /^(\d+)\.(\d+)$/;

/** The directory that holds `image/`: the one given, or the only remapped one in it. */
export function findDockerRoot(given: string): { readonly path: string; readonly owners: OwnerOffset | undefined } {
  const path = realPath(given);
  if (path === undefined || !statSync(path).isDirectory())
    throw new LamellaError("not_found", "NO_DOCKER_ROOT", `${given}: no such directory`, {
      hint: "name dockerd's data root; `docker info -f {{.DockerRootDir}}` prints it",
    });
  if (existsSync(`${path}/image`)) return { path, owners: ownersOf(path.slice(path.lastIndexOf("/") + 1)) };
  const inside = readdirSync(path).filter((name) => remapped.test(name) && existsSync(`${path}/${name}/image`));
  const [only, ...others] = inside;
  if (only !== undefined && others.length === 0) return { path: `${path}/${only}`, owners: ownersOf(only) };
  if (only === undefined) throw noImages(path, undefined);
  throw new LamellaError("failed_precondition", "SEVERAL_ROOTS", `${path} holds roots of ${inside.length} id ranges`, {
    hint: `name one: ${inside.map((name) => `${path}/${name}`).join(", ")}`,
  });
}

function ownersOf(name: string): OwnerOffset | undefined {
  const [, uid, gid] = remapped.exec(name) ?? [];
  return uid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
}

/** The one driver that has images in a root. */
export function onlyDriver(path: string): string {
  const image = `${path}/image`;
  const drivers = readdirSync(image).filter((name) => existsSync(`${image}/${name}/layerdb`));
  const filled = drivers.filter((name) => readdirSync(`${image}/${name}/layerdb`).length > 0);
  const [only, ...others] = filled;
  if (only === undefined) throw noImages(path, undefined);
  if (others.length === 0) return only;
  throw new LamellaError(
    "failed_precondition",
    "SEVERAL_DRIVERS",
    `${path} holds images of the drivers ${filled.join(" and ")}`,
    { hint: "choose one with --docker-driver, and move the others after it" },
  );
}

function realPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

/** The attributes in which a dockerd run by this user keeps what overlayfs needs. */
export function overlayPrefix(): OverlayXattrPrefix {
  return inUserNamespace() ? "user.overlay." : "trusted.overlay.";
}

function noImages(path: string, driver: string | undefined): LamellaError {
  const of = driver === undefined ? "" : ` of the driver ${driver}`;
  return new LamellaError("not_found", "NO_DOCKER_IMAGES", `${path} holds no images${of}`, {
    hint: "name dockerd's data root; `docker info -f {{.DockerRootDir}}` prints it",
  });
}

function unknownDriver(driver: string): LamellaError {
  return new LamellaError(
    "unimplemented",
    "DOCKER_DRIVER",
    `layers of Docker's driver ${driver} cannot be read from its root`,
    {
      hint: `they can for ${Object.keys(treesOf).join(", ")}; move others with \`docker save\` and \`lamella load\``,
    },
  );
}
