/**
 * Copies what lies in a data root to a new file system, and compares both. Undoing it is undoing the file system: it was made
 * for the copy.
 */
import { chmodSync, chownSync, lstatSync, readdirSync, statSync } from "node:fs";
import { listChanges } from "../../../diff/export-layer.ts";
import { LamellaError } from "../../../errors/lamella-error.ts";
import { FileCopier } from "../../../fs/copy-file.ts";
import { copyObject } from "../../../fs/copy-tree.ts";
import { flushFileSystem } from "../../../fs/flush.ts";
import { copyTreeInBackground } from "../../../fs/tree-jobs.ts";
import { bytesOfText } from "../../../lib/bytes.ts";
import { O_DIRECTORY, O_RDONLY } from "../../../sys/constants.ts";
import * as sys from "../../../sys/syscalls.ts";
import { withoutDocker } from "../engine-guard.ts";
import type { CopyDataStep, StepKind } from "./step.ts";

export const copyData: StepKind<CopyDataStep> = {
  describe: ({ from, to, without }) => `copy ${from} to ${to}, without ${without.join(", ")}, and compare both`,
  apply: async ({ root, from, to, without }, { host, signal, say }) => {
    using _kept = withoutDocker(host, root);
    const source = host.view.at(from);
    const target = host.view.at(to);
    const names = readdirSync(source).filter((name) => !without.includes(name));
    const { uid, gid, mode } = statSync(source);
    chownSync(target, uid, gid);
    chmodSync(target, mode & 0o7777);
    for (const name of names) {
      if (!lstatSync(`${source}/${name}`).isDirectory()) copyFile(source, target, name);
      else {
        const pair = [bytesOfText(`${source}/${name}`), bytesOfText(`${target}/${name}`)] as const;
        await copyTreeInBackground(...pair, signal === undefined ? {} : { signal });
        const changes = await listChanges({ kind: "trees", parent: pair[0], tree: pair[1] }, signal);
        const [first] = changes;
        if (first !== undefined)
          throw new LamellaError("data_loss", "COPY_DIFFERS", `the copy differs: ${to}/${name}/${first.path}`);
      }
    }
    await flushFileSystem(bytesOfText(target));
    say(`copied and compared ${names.length} names of ${from}`);
  },
  undo: async () => undefined,
};

function copyFile(source: string, target: string, name: string): void {
  using from = sys.open(bytesOfText(source), O_RDONLY | O_DIRECTORY);
  using to = sys.open(bytesOfText(target), O_RDONLY | O_DIRECTORY);
  const path = bytesOfText(name);
  copyObject(new FileCopier(), { fromFd: from.fd, toFd: to.fd, name: path, path, stat: sys.statx(from.fd, path) });
}
