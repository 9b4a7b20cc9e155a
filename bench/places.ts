/**
 * Where the benchmarks keep things, all of it under `.cache/bench` of the repository (or LAMELLA_BENCH_DIR):
 *
 * ```
 * input/root/        the root file system that is built on, loaded and walked; kept between runs
 * input/entries      how many entries it has, and its size: written last, so that it is there only when all is
 * work-<pid>/        stores, dockerd's data, unpacked trees; removed at the end of a run, or by the next one
 * ```
 */
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { output } from "./measure.ts";

export const repository = join(import.meta.dirname, "..", import.meta.dirname.includes("/dist/") ? ".." : ".");

/** The command line under test. */
export const lamella = [process.execPath, join(repository, "bin/lamella.js")] as const;

export class Places implements Disposable {
  readonly home: string;
  readonly input: string;
  readonly #work: string;

  constructor(home = process.env.LAMELLA_BENCH_DIR ?? join(repository, ".cache/bench")) {
    this.home = home;
    this.input = join(home, "input");
    this.#work = join(home, `work-${process.pid}`);
    mkdirSync(this.#work, { recursive: true });
    for (const name of readdirSync(home)) {
      const pid = /^work-(\d+)$/.exec(name)?.[1];
      if (pid !== undefined && !existsSync(`/proc/${pid}`)) output(["rm", "-rf", join(home, name)]);
    }
  }

  /** An empty directory of that name for this run; what was there is removed. */
  fresh(name: string): string {
    const path = join(this.#work, name);
    this.remove(path);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** Removes a tree and waits until the disk has seen it, so that the next measurement does not pay for it. */
  remove(path: string): void {
    output(["rm", "-rf", path]);
    output(["sync", "-f", this.home]);
  }

  [Symbol.dispose](): void {
    rmSync(this.#work, { recursive: true, force: true });
  }
}
