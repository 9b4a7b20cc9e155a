/**
 * The report over all machines. What test/run.ts prints in each is passed on line by line, save its closing line, which is
 * added up. Machines run beside each other and are reported one after another: the lines of a later one wait.
 *
 * A machine that ends without a closing line is itself a failure, with the end of its console.
 */
import type { Ending } from "./machine.ts";

/** The report of one machine. */
export interface Section {
  /** A line of the machine's own report. */
  line(text: string): void;
  end(ending: Ending): void;
}

interface Held {
  readonly lines: string[];
  ended: boolean;
}

export class Report {
  readonly #failures: string[] = [];
  readonly #startedMs = performance.now();
  /** The machines that are not yet reported to their end; the first is being printed. */
  readonly #held: Held[] = [];
  #machines = 0;
  #passed = 0;
  #failed = 0;
  #skipped = 0;

  /** Begins the report of a machine; all have the order in which they begin. */
  begin(name: string, about: string): Section {
    const held: Held = { lines: [], ended: false };
    let counted = false;
    this.#machines++;
    this.#held.push(held);
    this.#print(held, `\n==== ${name}: ${about}`);
    const line = (text: string): void => {
      const counts = /^(\d+) passed, (\d+) failed, (\d+) skipped$/.exec(text);
      if (counts === null) {
        this.#print(held, text);
        return;
      }
      counted = true;
      this.#passed += Number(counts[1]);
      this.#failed += Number(counts[2]);
      this.#skipped += Number(counts[3]);
    };
    const end = (ending: Ending): void => {
      if ("reason" in ending) this.#fail(held, name, ending.reason, ending.console);
      else if (!counted) this.#fail(held, name, `its tests ended with status ${ending.status} and counted nothing`, "");
      else if (ending.status !== 0) this.#failures.push(`${name}: some of its tests`);
      held.ended = true;
      this.#advance();
    };
    return { line, end };
  }

  /** Something that cannot run here. */
  skip(what: string, reason: string): void {
    this.#skipped++;
    console.log(`  ﹣ ${what} skipped: ${reason}`);
  }

  /** Something that went wrong before any test ran. */
  fail(what: string, reason: string): void {
    this.#failed++;
    this.#failures.push(`${what}: ${reason}`);
  }

  /** Prints the closing lines; the exit status. */
  close(options: { readonly skipIsFailure: boolean }): number {
    const skipFails = options.skipIsFailure && this.#skipped > 0;
    console.log("");
    for (const failure of this.#failures) console.log(`failed: ${failure}`);
    if (skipFails) console.log("Nothing may be skipped here (LAMELLA_TEST_NO_SKIP=1).");
    console.log(`${this.#machines} machines in ${((performance.now() - this.#startedMs) / 1000).toFixed(1)} s`);
    console.log(`${this.#passed} passed, ${this.#failed} failed, ${this.#skipped} skipped`);
    return this.#failures.length > 0 || this.#failed > 0 || skipFails ? 1 : 0;
  }

  #fail(held: Held, name: string, reason: string, text: string): void {
    this.fail(name, reason);
    this.#print(held, `  ✖ ${reason}`);
    if (text !== "") this.#print(held, text.replace(/^/gm, "      "));
  }

  #print(held: Held, text: string): void {
    if (held === this.#held[0]) console.log(text);
    else held.lines.push(text);
  }

  #advance(): void {
    while (this.#held[0]?.ended) {
      this.#held.shift();
      for (const line of this.#held[0]?.lines.splice(0) ?? []) console.log(line);
    }
  }
}
