/**
 * What a home's folder `.lamella` holds of the zfs driver besides the lists of uses:
 *
 *     zfs.json       `{"home": <16 digits>, "parent": <dataset>}`: the random number its datasets are marked with, and the
 *                    dataset they are below. Written once, durably: without it the datasets would be nobody's.
 *     probes.json    what was found of the host, for as long as it is up with the same programs
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { LamellaError } from "../../errors/lamella-error.ts";
import { writeDurably } from "../../fs/durable-file.ts";
import { findProgram } from "../../fs/find-program.ts";
import { lockFile } from "../../fs/locks.ts";
import { type ByteString, bytesOfText, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD } from "../../sys/constants.ts";
import * as sys from "../../sys/syscalls.ts";
import { readSmallFile } from "../small-file.ts";
import { mounterHere } from "./abilities.ts";
import type { ZfsHost } from "./trial.ts";

export interface ZfsHome {
  readonly home: string;
  readonly parent: string;
}

/** What is written of the home, written now when it is new. Errors: data_loss when it cannot be read. */
export function zfsHome(home: ByteString, parent: string): ZfsHome {
  const path = `${home}/.lamella/zfs.json`;
  using _ = lockFile(`${home}/.lamella/lock`, "exclusive");
  const text = readSmallFile(path);
  if (text === undefined) {
    const made: ZfsHome = { home: randomBytes(8).toString("hex"), parent };
    writeDurably(path, `${JSON.stringify(made)}\n`, { mode: 0o600 });
    return made;
  }
  const value = parsed<Partial<ZfsHome>>(text);
  if (typeof value?.home !== "string" || typeof value.parent !== "string")
    throw new LamellaError("data_loss", "ZFS_HOME", `${textOfBytes(path)} is damaged`, {
      hint: "write the number after `lamella:of=` of any dataset of a layer, up to the dash, into it as `home`",
    });
  return { home: value.home, parent: value.parent };
}

/** Notes that the parent dataset has another name now. */
export function moveZfsHome(home: ByteString, { home: number }: ZfsHome, parent: string): void {
  writeDurably(`${home}/.lamella/zfs.json`, `${JSON.stringify({ home: number, parent })}\n`, { mode: 0o600 });
}

/** What {@link rememberHost} wrote, if it still holds for this parent dataset. */
export function rememberedHost(home: ByteString, parent: string | undefined): ZfsHost | undefined {
  const text = readSmallFile(probesAt(home));
  const value = text === undefined ? undefined : parsed<{ key?: unknown; host?: ZfsHost }>(text);
  return value?.host !== undefined && value.key === hostKey(parent) ? value.host : undefined;
}

/** Keeps what was found of the host. The home exists. */
export function rememberHost(home: ByteString, host: ZfsHost): void {
  const text = `${JSON.stringify({ key: hostKey(host.parent), host })}\n`;
  writeDurably(probesAt(home), text, { durable: false, mode: 0o600 });
}

function probesAt(home: ByteString): ByteString {
  return `${home}/.lamella/probes.json`;
}

function hostKey(parent: string | undefined): string {
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  const programs = ["zfs", "zpool"].map((name) => {
    const path = findProgram(name);
    const stat = path === undefined ? undefined : sys.statIfExists(AT_FDCWD, bytesOfText(path));
    return `${path}:${stat?.mtimeSec}:${stat?.size}`;
  });
  return [boot, mounterHere(), ...programs, parent].join(" ");
}

function parsed<T>(text: string): T | undefined {
  try {
    return JSON.parse(text) as T;
  } catch {
    return undefined;
  }
}
