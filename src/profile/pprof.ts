/**
 * Profiles in pprof's format: a protocol buffer, mostly in gzip (github.com/google/pprof, proto/profile.proto). A Go program
 * gives one at `/debug/pprof/profile`. Of several values a sample has, the last is taken, as pprof itself does by default.
 */
import { gunzipSync } from "node:zlib";
import { Profile as PprofProfile } from "pprof-format";
import { LamellaError } from "../errors/lamella-error.ts";
import type { Profile, ProfileUnit, StackSample } from "./profile.ts";

/** No sensible profile is larger, unpacked. */
const maxBytes = 256 * 1024 * 1024;

const units: Readonly<Record<string, ProfileUnit>> = { nanoseconds: "nanoseconds", bytes: "bytes" };

/** Errors: invalid_argument (`BAD_PROFILE`) for what is no such profile. */
export function readPprof(bytes: Uint8Array, name: string): Profile {
  try {
    const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
    const decoded = PprofProfile.decode(isGzip ? gunzipSync(bytes, { maxOutputLength: maxBytes }) : bytes);
    return profileOf(decoded, name);
  } catch (error) {
    throw new LamellaError("invalid_argument", "BAD_PROFILE", `${name}: not a pprof profile`, { cause: error });
  }
}

function profileOf(pprof: PprofProfile, name: string): Profile {
  const { strings } = pprof.stringTable;
  const functions = new Map(pprof.function.map((one) => [Number(one.id), strings[Number(one.name)] ?? "?"]));
  // Of inlined functions the innermost comes first.
  const locations = new Map(
    pprof.location.map((one) => [
      Number(one.id),
      one.line.length === 0
        ? [`0x${one.address.toString(16)}`]
        : one.line.map((line) => functions.get(Number(line.functionId)) ?? "?").reverse(),
    ]),
  );
  const type = pprof.sampleType.at(-1);
  const samples = pprof.sample.flatMap((sample): StackSample[] => {
    const frames = [...sample.locationId].reverse().flatMap((id) => locations.get(Number(id)) ?? ["?"]);
    const weight = Number(sample.value.at(-1) ?? 0);
    return frames.length === 0 || weight === 0 ? [] : [{ frames, weight }];
  });
  if (type === undefined) throw new Error("it has no sample type");
  return { name, unit: units[strings[Number(type.unit)] ?? ""] ?? "none", samples };
}
