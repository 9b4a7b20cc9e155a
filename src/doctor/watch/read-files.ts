/** Dumps and profiles from files instead of a daemon that runs: told apart by what is in them. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { LamellaError } from "../../errors/lamella-error.ts";
import { readFolded } from "../../profile/folded.ts";
import { readPprof } from "../../profile/pprof.ts";
import type { Profile } from "../../profile/profile.ts";
import { HostView } from "../host-view.ts";
import { readDaemonLog } from "./daemon-log.ts";
import { type Look, lookAt, reportOn, type Watched, watchedOf } from "./watch.ts";

/**
 * Goroutine dumps, one look each; or one profile, of pprof or folded stacks. Errors: invalid_argument (`BAD_PROFILE`) for what is neither
 * or for both at once; those of reading.
 */
export function readWatched(paths: readonly string[], logFile?: string): Watched {
  const looks: Look[] = [];
  const profiles: Profile[] = [];
  for (const path of paths) {
    const bytes = readFileSync(path);
    const text = isText(bytes) ? bytes.toString("utf8") : undefined;
    if (text !== undefined && /^goroutine [0-9]+ .*\[.*\]:$/m.test(text)) looks.push(lookAt(text));
    else profiles.push(readProfile(bytes, text, path));
  }
  const source = paths.join(", ");
  const host = new HostView();
  const log = logFile === undefined ? undefined : readDaemonLog(host, undefined, logFile);
  const [profile, ...more] = profiles;
  if (profile === undefined) return watchedOf(looks, { source }, { host, log });
  if (more.length > 0 || looks.length > 0)
    throw new LamellaError("invalid_argument", "BAD_PROFILE", "of profiles only one is read at a time, and by itself");
  return reportOn(profile, { source }, { host, log });
}

function readProfile(bytes: Buffer, text: string | undefined, path: string): Profile {
  const profile = text === undefined ? undefined : readFolded(text, basename(path));
  if (profile !== undefined) return profile;
  if (text !== undefined)
    throw new LamellaError(
      "invalid_argument",
      "BAD_PROFILE",
      `${path}: neither goroutines, nor folded stacks, nor pprof`,
    );
  return readPprof(bytes, basename(path));
}

/** A protocol buffer or gzip has bytes no text has. */
function isText(bytes: Buffer): boolean {
  return !bytes.subarray(0, 4096).some((byte) => byte < 9 || (byte > 13 && byte < 32) || byte === 0x7f);
}
