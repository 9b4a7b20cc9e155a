/**
 * Which extended attributes a layer carries: all of them but those that belong to the host the object happens to lie on.
 * SELinux labels, IMA and EVM signatures are recomputed by the host that gets the layer; NFS reports its ACLs twice.
 */
import type { ByteString } from "../lib/bytes.ts";

const hostXattrs: ReadonlySet<ByteString> = new Set([
  "security.selinux",
  "security.ima",
  "security.evm",
  "security.SMACK64",
  "system.nfs4_acl",
]);

/** True for an attribute that describes the host, not the object; differs ignore it, layers never hold it. */
export function isHostXattr(name: ByteString): boolean {
  return hostXattrs.has(name);
}
