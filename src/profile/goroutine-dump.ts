/**
 * The text in which a Go program shows all its goroutines (runtime.Stack, and the goroutine profile with `debug=2`):
 *
 *     goroutine 101 [chan receive, 5 minutes]:
 *     main.work(0xc000012345, {0x1, 0x2})
 *             /src/main.go:10 +0x25
 *     created by main.start
 *             /src/main.go:5 +0x19
 *
 * The function that runs comes first. Lines of anything else are passed over, so that a log with a dump in it will do.
 */

export interface Goroutine {
  readonly id: number;
  /** `running`, `select`, `IO wait`, `chan receive` ... */
  readonly state: string;
  /** For how long it has been so, where that is a minute or more. */
  readonly waitMinutes: number;
  /** Names of functions without their arguments, from the outermost to the one that runs. */
  readonly frames: readonly string[];
  /** The function that started it; undefined for the first goroutine. */
  readonly createdBy: string | undefined;
}

const headLine = /^goroutine ([0-9]+) (?:gp=\S+ )?(?:m=\S+ )?(?:mp=\S+ )?\[([^\]]*)\]:$/;

/** Every goroutine with at least one frame, in the order of the text. */
export function parseGoroutineDump(text: string): Goroutine[] {
  const found: Goroutine[] = [];
  let frames: string[] | undefined;
  let createdBy: string | undefined;
  let head: { readonly id: number; readonly states: readonly string[] } | undefined;
  const finish = (): void => {
    if (head !== undefined && frames !== undefined && frames.length > 0) {
      const [state = ""] = head.states;
      const waiting = head.states.map((one) => /^([0-9]+) minutes$/.exec(one)?.[1]).find(Boolean);
      found.push({ id: head.id, state, waitMinutes: Number(waiting ?? 0), frames: frames.reverse(), createdBy });
    }
    head = undefined;
    frames = undefined;
    createdBy = undefined;
  };
  for (const line of text.split("\n")) {
    const [, id, states] = headLine.exec(line) ?? [];
    if (id !== undefined && states !== undefined) {
      finish();
      head = { id: Number(id), states: states.split(", ") };
      frames = [];
    } else if (frames === undefined || line.startsWith("\t")) continue;
    else if (line.startsWith("created by "))
      createdBy = line.slice("created by ".length).replace(/ in goroutine [0-9]+$/, "");
    else {
      const name = functionOf(line);
      if (name === undefined) finish();
      else frames.push(name);
    }
  }
  finish();
  return found;
}

/** `pkg.(*T).f(0x1, {0x2})` is `pkg.(*T).f`; undefined for what is no call. */
function functionOf(line: string): string | undefined {
  if (!line.endsWith(")")) return undefined;
  let depth = 0;
  for (let i = line.length - 1; i > 0; i--) {
    if (line[i] === ")") depth++;
    else if (line[i] === "(" && --depth === 0) return /\s/.test(line.slice(0, i)) ? undefined : line.slice(0, i);
  }
  return undefined;
}
