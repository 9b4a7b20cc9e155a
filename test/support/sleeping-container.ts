/** Runs a container that sleeps: `sleeping-container.ts DIRECTORY SECONDS`. For tests that kill it. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { StepThreads } from "../../src/build/step-threads.ts";
import { bytesOfText } from "../../src/lib/bytes.ts";
import { inUserNamespace } from "./overlay-lab.ts";

const [directory = "", seconds = ""] = process.argv.slice(2);
const at = join(directory, "killed");
for (const name of ["upper", "work", "scratch"]) mkdirSync(join(at, name), { recursive: true });
const threads = new StepThreads({
  scratch: join(at, "scratch"),
  searchPath: (process.env.PATH ?? "").split(":"),
  engine: "builtin",
});
await threads.runContainer(
  {
    root: {
      kind: "overlay",
      lowers: [bytesOfText(join(directory, "base"))],
      upper: bytesOfText(join(at, "upper")),
      work: bytesOfText(join(at, "work")),
      options: { redirectDir: undefined, metacopy: undefined, index: "off", userxattr: inUserNamespace() },
    },
    args: ["sh", "-c", `echo up; sleep ${seconds}`],
    env: [],
    network: "host",
  },
  { onOutput: ({ chunk }) => process.stdout.write(chunk) },
);
