/** Layer IDs: 64 lower-case hexadecimal digits, random, meaning nothing. */
import { randomBytes } from "node:crypto";
import { LamellaError } from "../errors/lamella-error.ts";
import type { LayerId } from "./driver.ts";

const form = /^[0-9a-f]{64}$/;

export function isLayerId(text: string): text is LayerId {
  return form.test(text);
}

/** Errors: invalid_argument. */
export function parseLayerId(text: string): LayerId {
  if (isLayerId(text)) return text;
  throw new LamellaError("invalid_argument", "LAYER_ID", `not a layer ID (64 hexadecimal digits): ${text}`);
}

export function newLayerId(): LayerId {
  return parseLayerId(randomBytes(32).toString("hex"));
}
