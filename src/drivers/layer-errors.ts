/** The errors that all drivers have in common. */
import { LamellaError } from "../errors/lamella-error.ts";
import { type ByteString, textOfBytes } from "../lib/bytes.ts";

export function layerExists(id: string): LamellaError {
  return new LamellaError("already_exists", "LAYER_EXISTS", `layer ${id} exists already`);
}

export function noSuchLayer(id: string, home: ByteString): LamellaError {
  return new LamellaError("not_found", "LAYER_NOT_FOUND", `no layer ${id} in ${textOfBytes(home)}`);
}

export function mountedElsewhere(id: string): LamellaError {
  return new LamellaError("failed_precondition", "LAYER_IN_USE", `layer ${id} is mounted in another mount namespace`, {
    hint: "unmount it there: overlayfs does not allow one writable layer to be mounted twice",
  });
}

export function mountedInOtherMode(id: string, readOnly: boolean): LamellaError {
  const mode = readOnly ? "read-only" : "writable";
  return new LamellaError("failed_precondition", "LAYER_IN_USE", `layer ${id} is already mounted ${mode}`, {
    hint: "unmount it first",
  });
}

/** The driver cannot run here; `why` names what is missing. */
export function unsupported(driver: string, home: ByteString, why: string, hint: string): LamellaError {
  const message = `${driver} does not work under ${textOfBytes(home)}: ${why}`;
  return new LamellaError("failed_precondition", "DRIVER_UNSUPPORTED", message, { hint });
}
