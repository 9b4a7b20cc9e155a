/**
 * Build arguments: what `--build-arg` gives, what ARG declares and where, and the predefined ones.
 *
 * An ARG before the first FROM is seen by FROM alone; a stage sees it (its value, or --build-arg's) after an ARG of its own
 * with that name. The platform arguments are such global ones. The proxy variables need no ARG and stay out of the history.
 */
import type { ArgInstruction } from "../dockerfile/index.ts";
import type { Platform } from "../oci/platform.ts";
import { formatPlatform } from "../oci/platform.ts";

const proxyVariables = ["HTTP", "HTTPS", "FTP", "NO", "ALL"].flatMap((name) => [
  `${name}_PROXY`,
  `${name.toLowerCase()}_proxy`,
]);

/** The predefined arguments that describe both platforms. */
export function platformArgs(target: Platform, build: Platform): ReadonlyMap<string, string> {
  const args = new Map<string, string>();
  for (const [prefix, platform] of [
    ["BUILD", build],
    ["TARGET", target],
  ] as const) {
    args.set(`${prefix}PLATFORM`, formatPlatform(platform));
    args.set(`${prefix}OS`, platform.os);
    args.set(`${prefix}ARCH`, platform.architecture);
    args.set(`${prefix}VARIANT`, platform.variant ?? "");
  }
  return args;
}

/** The arguments outside all stages. */
export class GlobalArgs {
  readonly #given: ReadonlyMap<string, string>;
  readonly #values: Map<string, string | undefined>;
  readonly #consumed = new Set<string>();

  constructor(given: ReadonlyMap<string, string>, predefined: ReadonlyMap<string, string>) {
    this.#given = given;
    this.#values = new Map(predefined);
    for (const name of predefined.keys()) {
      const value = given.get(name);
      if (value !== undefined) this.#values.set(name, value);
    }
  }

  /** An ARG before the first FROM, its words expanded. */
  declare(instruction: ArgInstruction): void {
    for (const { name, value } of instruction.args) {
      this.#consumed.add(name);
      this.#values.set(name, this.#given.get(name) ?? value ?? this.#values.get(name));
    }
  }

  lookup(name: string): string | undefined {
    return this.#values.get(name);
  }

  /** The arguments of a new stage. */
  stage(): StageArgs {
    return new StageArgs(this.#given, this.#values, this.#consumed);
  }

  /** Names given that no ARG asked for. */
  unused(): string[] {
    return [...this.#given.keys()].filter((name) => !this.#consumed.has(name) && !this.#isPredefined(name)).sort();
  }

  #isPredefined(name: string): boolean {
    return proxyVariables.includes(name) || /^(?:BUILD|TARGET)(?:PLATFORM|OS|ARCH|VARIANT)$/.test(name);
  }
}

/** The arguments one stage has declared so far. */
export class StageArgs {
  readonly #given: ReadonlyMap<string, string>;
  readonly #global: ReadonlyMap<string, string | undefined>;
  readonly #consumed: Set<string>;
  readonly #values = new Map<string, string | undefined>();

  constructor(
    given: ReadonlyMap<string, string>,
    global: ReadonlyMap<string, string | undefined>,
    consumed: Set<string>,
  ) {
    this.#given = given;
    this.#global = global;
    this.#consumed = consumed;
  }

  declare(instruction: ArgInstruction): void {
    for (const { name, value } of instruction.args) {
      this.#consumed.add(name);
      this.#values.set(name, this.#given.get(name) ?? value ?? this.#global.get(name));
    }
  }

  lookup(name: string): string | undefined {
    const declared = this.#values.get(name);
    return declared ?? (proxyVariables.includes(name) ? this.#given.get(name) : undefined);
  }

  /** What a RUN sees beside ENV, as `NAME=value` sorted; `recorded` without undeclared proxy variables. */
  forRun(env: readonly string[]): {
    readonly env: readonly string[];
    readonly recorded: readonly string[] | undefined;
  } {
    const inEnv = new Set(env.map((pair) => pair.slice(0, pair.indexOf("="))));
    const all: string[] = [];
    const recorded: string[] = [];
    for (const name of new Set([...this.#values.keys(), ...proxyVariables])) {
      const value = this.lookup(name);
      if (value === undefined || inEnv.has(name)) continue;
      all.push(`${name}=${value}`);
      if (this.#values.has(name)) recorded.push(`${name}=${value}`);
    }
    return { env: all.sort(), recorded: all.length === 0 ? undefined : recorded.sort() };
  }
}
