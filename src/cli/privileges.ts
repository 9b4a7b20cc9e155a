/** Whether this process may mount file systems, as far as capabilities tell. */
import { readFileSync } from "node:fs";

const CAP_SETGID = 6n;
const CAP_SETUID = 7n;
const CAP_SYS_ADMIN = 21n;

/** True with CAP_SYS_ADMIN in the user namespace this process is in. */
export function mayMount(): boolean {
  return hasCapabilities(CAP_SYS_ADMIN);
}

/** True when this process may write an identity mapping of many ids for a child. */
export function maySetIds(): boolean {
  return hasCapabilities(CAP_SETUID, CAP_SETGID);
}

function hasCapabilities(...wanted: readonly bigint[]): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "0";
  const bits = BigInt(`0x${effective}`);
  return wanted.every((capability) => (bits >> capability) & 1n);
}
