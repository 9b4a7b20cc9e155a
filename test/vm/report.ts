/**
 * The report over all machines: what test/run.ts prints in each is passed on line by line, save its closing line, which is
 * added up. A machine that ends without one is itself a failure, with the end of its console.
 */
import type { Ending } from "./machine.ts";

export class Report {
  readonly #failures: string[] = [];
  readonly #startedMs = performance.now();
  #passed = 0;
  #failed = 0;
  #skipped = 0;
  #machines = 0;
  #summarized = false;

  /** Begins a machine. */
  begin(title: string): void {
    this.#machines++;
    this.#summarized = false;
    console.log(`\n==== ${title}`);
  }

  /** A line of the machine's own report. */
  line(text: string): void {
    const counts = /^(\d+) passed, (\d+) failed, (\d+) skipped$/.exec(text);
    if (counts === null) {
      console.log(text);
      return;
    }
    this.#summarized = true;
    this.#passed += Number(counts[1]);
    this.#failed += Number(counts[2]);
    this.#skipped += Number(counts[3]);
  }

  /** Ends a machine. */
  end(name: string, ending: Ending): void {
    if ("status" in ending && this.#summarized) {
      if (ending.status !== 0) this.#failures.push(`${name}: ended with status ${ending.status}`);
      return;
    }
    const { reason, console: text } =
      "status" in ending
        ? { reason: `its tests ended with status ${ending.status} and told nothing`, console: "" }
        : ending;
    this.#failed++;
    this.#failures.push(`${name}: ${reason}`);
    console.log(`  ✖ ${reason}\n${text.replace(/^/gm, "      ")}`);
  }

  /** Something that cannot run here. */
  skip(what: string, reason: string): void {
    this.#skipped++;
    console.log(`  ﹣ ${what} skipped: ${reason}`);
  }

  /** Prints the closing lines; the exit status. */
  close(options: { readonly skipIsFailure: boolean }): number {
    const isFailure = this.#failures.length > 0 || this.#failed > 0 || (options.skipIsFailure && this.#skipped > 0);
    for (const failure of this.#failures) console.log(`failed: ${failure}`);
    if (options.skipIsFailure && this.#skipped > 0)
      console.log("\nNothing may be skipped here (LAMELLA_TEST_NO_SKIP=1).");
    console.log(`\n${this.#machines} machines in ${((performance.now() - this.#startedMs) / 1000).toFixed(1)} s`);
    console.log(`${this.#passed} passed, ${this.#failed} failed, ${this.#skipped} skipped`);
    return isFailure ? 1 : 0;
  }
}
