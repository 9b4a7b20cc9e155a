/** Devices, told apart by number. */
import type { Stat } from "../sys/syscalls.ts";

/** A device number in its two parts. */
export type Device = Pick<Stat, "devMajor" | "devMinor">;

/** True when the object lies on the device. */
export function isOn(stat: Stat, { devMajor, devMinor }: Device): boolean {
  return stat.devMinor === devMinor && stat.devMajor === devMajor;
}

/** The device that an object lies on. */
export function deviceOf({ devMajor, devMinor }: Stat): Device {
  return { devMajor, devMinor };
}
