/**
 * `RUN --mount=…`: reads the options of one mount. Supported: bind (read-only), cache, tmpfs, secret. Whatever else BuildKit
 * has is refused by name. Targets are resolved inside the container's root by the runtime; a cache's id never becomes a path.
 */
import { LamellaError } from "../errors/lamella-error.ts";

export type RunMount =
  | { readonly type: "bind"; readonly from: string | undefined; readonly source: string; readonly target: string }
  | {
      readonly type: "cache";
      readonly id: string;
      readonly target: string;
      readonly from: string | undefined;
      readonly source: string;
      readonly readOnly: boolean;
      readonly locked: boolean;
      readonly mode: number;
      readonly uid: number;
      readonly gid: number;
    }
  | { readonly type: "tmpfs"; readonly target: string; readonly sizeBytes: number | undefined }
  | {
      readonly type: "secret";
      readonly id: string;
      readonly target: string;
      readonly required: boolean;
      readonly mode: number;
      readonly uid: number;
      readonly gid: number;
    };

/** Parses the value of one `--mount`, variables expanded. `workdir`: relative targets start there. */
export function parseRunMount(text: string, workdir: string): RunMount {
  const options = new Map<string, string>();
  for (const field of text.split(",")) {
    const equals = field.indexOf("=");
    const key = (equals < 0 ? field : field.slice(0, equals)).trim().toLowerCase();
    options.set(aliases[key] ?? key, equals < 0 ? "true" : field.slice(equals + 1));
  }
  const take = (key: string): string | undefined => {
    const value = options.get(key);
    options.delete(key);
    return value;
  };
  const mount = readMount(take, text, workdir);
  const [unknown] = options.keys();
  if (unknown !== undefined) throw bad(text, `unknown or unsupported option ${JSON.stringify(unknown)}`);
  return mount;
}

const aliases: Readonly<Record<string, string>> = {
  dst: "target",
  destination: "target",
  src: "source",
  ro: "readonly",
  rw: "readwrite",
};

function readMount(take: (key: string) => string | undefined, text: string, workdir: string): RunMount {
  const type = take("type") ?? "bind";
  const written = take("target");
  const absolute = (path: string): string => (path.startsWith("/") ? path : `${workdir}/${path}`);
  const need = (): string => {
    if (written === undefined || written === "") throw bad(text, "it needs a target");
    return absolute(written);
  };
  const flag = (key: string): boolean | undefined => {
    const value = take(key);
    return value === undefined ? undefined : value === "true" || value === "1";
  };
  const id = (key: string): number => {
    const value = take(key) ?? "0";
    if (!/^[0-9]{1,9}$/.test(value)) throw bad(text, `${key} is not a number`);
    return Number(value);
  };
  const mode = (fallback: number): number => {
    const value = take("mode");
    if (value === undefined) return fallback;
    if (!/^[0-7]{1,5}$/.test(value)) throw bad(text, "mode is not octal");
    return Number.parseInt(value, 8);
  };
  switch (type) {
    case "bind": {
      const target = need();
      flag("readonly");
      if (flag("readwrite")) throw bad(text, "a writable bind mount is not supported");
      return { type, from: take("from"), source: take("source") ?? "/", target };
    }
    case "cache": {
      const target = need();
      const sharing = take("sharing") ?? "shared";
      if (sharing !== "shared" && sharing !== "locked") throw bad(text, `sharing=${sharing} is not supported`);
      return {
        type,
        id: take("id") ?? target,
        target,
        from: take("from"),
        source: take("source") ?? "/",
        readOnly: flag("readonly") ?? false,
        locked: sharing === "locked",
        mode: mode(0o755),
        uid: id("uid"),
        gid: id("gid"),
      };
    }
    case "tmpfs":
      return { type, target: need(), sizeBytes: sizeOf(take("size"), text) };
    case "secret": {
      const name = take("id") ?? written?.split("/").at(-1);
      if (!name) throw bad(text, "it needs an id");
      const target = written === undefined ? `/run/secrets/${name}` : absolute(written);
      return {
        type,
        id: name,
        target,
        required: flag("required") ?? false,
        mode: mode(0o400),
        uid: id("uid"),
        gid: id("gid"),
      };
    }
    default:
      throw new LamellaError(
        "unimplemented",
        "MOUNT_TYPE",
        `--mount=${text}: type ${JSON.stringify(type)} is not supported`,
        {
          hint: "bind, cache, tmpfs and secret are",
        },
      );
  }
}

function sizeOf(text: string | undefined, mount: string): number | undefined {
  if (text === undefined) return undefined;
  const [, number, unit = ""] = /^([0-9]{1,15})([kmgt]?)i?b?$/i.exec(text) ?? [];
  if (number === undefined) throw bad(mount, "size is not a number of bytes");
  return Number(number) * 1024 ** ["", "k", "m", "g", "t"].indexOf(unit.toLowerCase());
}

function bad(text: string, problem: string): LamellaError {
  return new LamellaError("invalid_argument", "BAD_MOUNT", `--mount=${text}: ${problem}`);
}
