/** What the tests of the driver suite play in: a driver in a fresh home, and short ways to say what they do. */
import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { applyLayer } from "../diff/apply-layer.ts";
import { type ExportedLayer, exportLayer, listChanges } from "../diff/export-layer.ts";
import type { Driver, DriverFactory, LayerId } from "../drivers/driver.ts";
import { newLayerId } from "../drivers/layer-id.ts";
import { isLamellaError } from "../errors/lamella-error.ts";
import { readMountInfo } from "../fs/mountinfo.ts";
import { workerUrl } from "../fs/worker-pool.ts";
import type { DriverSuiteOptions } from "./driver-suite-options.ts";
import { listTree } from "./tree-listing.ts";

/** One test of the suite: registered under `title`, run with a scene of its own. */
export type SceneTest = (title: string, body: (scene: Scene) => Promise<void>) => void;

/** A driver in a fresh home, with short ways to say what tests do. */
export class Scene implements AsyncDisposable {
  readonly home: string;
  /** A directory for files of the test itself. */
  readonly scratch = mkdtempSync(join(tmpdir(), "lamella-suite-"));
  readonly factory: DriverFactory;
  readonly options: DriverSuiteOptions;
  driver: Driver;
  readonly #hostBefore: readonly string[] | undefined;

  private constructor(
    home: string,
    factory: DriverFactory,
    options: DriverSuiteOptions,
    driver: Driver,
    hostBefore: readonly string[] | undefined,
  ) {
    this.home = home;
    this.factory = factory;
    this.options = options;
    this.driver = driver;
    this.#hostBefore = hostBefore;
  }

  static async open(factory: DriverFactory, options: DriverSuiteOptions): Promise<Scene> {
    const home = options.makeHome();
    const hostBefore = options.hostState?.();
    const driver = await factory.open(home, options.driverOptions ?? {});
    return new Scene(home, factory, options, driver, hostBefore);
  }

  async reopen(): Promise<void> {
    await this.driver.rest();
    this.driver = await this.factory.open(this.home, this.options.driverOptions ?? {});
  }

  /** A new layer on `parent`, filled by `fill` without a mount where it is a base, through one otherwise. */
  async layer(parent?: LayerId, fill?: (root: string) => void): Promise<LayerId> {
    const id = newLayerId();
    await this.driver.create(id, parent);
    if (fill !== undefined) await this.change(id, fill);
    return id;
  }

  async change(id: LayerId, fill: (root: string) => void): Promise<void> {
    await using mounted = await this.driver.mount(id);
    assert.equal(mounted.readOnly, false);
    fill(mounted.path);
  }

  async read<T>(id: LayerId, look: (root: string) => T): Promise<T> {
    await using mounted = await this.driver.mount(id, { readOnly: true });
    return look(mounted.path);
  }

  /** Mounts below the home once nobody uses any. */
  async mountsLeft(): Promise<string[]> {
    await this.driver.rest();
    return readMountInfo()
      .map((mount) => mount.mountPoint)
      .filter((point) => point.startsWith(`${this.home}/`));
  }

  /** The layer's changes as `docker diff` has them, sorted by path: `C /etc/passwd`. */
  async changes(id: LayerId): Promise<string[]> {
    await using source = await this.driver.diffSource(id);
    const changes = await listChanges(source.value);
    return changes.map(({ kind, path }) => `${kind} ${path}`).sort((a, b) => (a.slice(2) < b.slice(2) ? -1 : 1));
  }

  /** Exports a layer, and applies the tar to a new layer on `parent`. */
  async roundTrip(
    id: LayerId,
    parent: LayerId | undefined,
  ): Promise<{ readonly exported: ExportedLayer; readonly copy: LayerId }> {
    const tarPath = join(this.scratch, `${id}.tar`);
    const exported = await this.export(id, tarPath);
    const copy = await this.layer(parent);
    await this.apply(copy, tarPath, exported);
    return { exported, copy };
  }

  async export(id: LayerId, tarPath: string): Promise<ExportedLayer> {
    await using source = await this.driver.diffSource(id);
    return await exportLayer({ source: source.value, tarPath });
  }

  async apply(id: LayerId, tarPath: string, { diffId, tarSizeBytes }: ExportedLayer): Promise<void> {
    await using target = await this.driver.applyTarget(id);
    const applied = await applyLayer({
      target: target.value,
      tar: { file: tarPath, offset: 0, length: tarSizeBytes },
      recordPath: `${tarPath}.record`,
      spillDir: `${tarPath}.spill`,
    });
    assert.equal(applied.diffId, diffId);
    assert.equal(applied.tarSizeBytes, tarSizeBytes);
  }

  /** A layer's tree as text, without the time of its root, which no layer carries. */
  async listing(id: LayerId): Promise<string[]> {
    const lines = await this.read(id, listTree);
    return lines.map((line) => (line.startsWith(". ") ? line.split(" ").toSpliced(3, 1).join(" ") : line));
  }

  /** Descriptors this process has open. */
  openFiles(): number {
    return readdirSync("/proc/self/fd").length;
  }

  /** Another process at work on the driver (./driver-process.ts). */
  async spawn(
    task: "hold" | "cycle" | "churn",
    id: LayerId,
    tarPath?: string,
  ): Promise<ChildProcessWithoutNullStreams> {
    const script = fileURLToPath(workerUrl(import.meta.url, "./driver-process"));
    const driverOptions = JSON.stringify(this.options.driverOptions ?? {});
    const words = [script, task, this.driver.name, this.home, driverOptions, id, tarPath ?? ""];
    const child = spawn(process.execPath, [...process.execArgv, ...words]);
    let complaint = "";
    child.stderr.on("data", (chunk: Buffer) => {
      complaint += chunk.toString();
    });
    await Promise.race([
      once(child.stdout, "data"),
      once(child, "exit").then(() => assert.fail(`the other process ended: ${complaint}`)),
    ]);
    return child;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const left = await this.mountsLeft();
    for (const id of await this.driver.list()) await this.driver.unmountAll(id);
    await this.driver.rest();
    await this.options.removeHome?.(this.home, this.driver);
    execFileSync("rm", ["-rf", this.home, this.scratch]);
    assert.deepEqual(left, [], "mounts are left");
    if (this.#hostBefore !== undefined)
      assert.deepEqual(this.options.hostState?.(), this.#hostBefore, "left on the host");
  }
}

/** Expects `body` to fail with an error of that kind. */
export async function refuses(kind: Parameters<typeof isLamellaError>[1], body: Promise<unknown>): Promise<void> {
  await assert.rejects(body, (error) => isLamellaError(error, kind as never) || assert.fail(`${error}, not ${kind}`));
}
