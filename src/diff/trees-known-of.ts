/** What is known of two trees, as plain data that goes to other threads, and what each of them makes of it. */
import { type Birth, type Known, NothingKnown } from "./trees-known.ts";
import { CloneKnown, type KnownOfClone } from "./trees-known-clone.ts";
import { InodesKnown } from "./trees-known-inode.ts";
import { type KnownOfManifest, ManifestKnown } from "./trees-known-manifest.ts";

export type KnownOf =
  | { readonly kind: "nothing"; readonly upperBirth: Birth | undefined }
  | { readonly kind: "inodes" }
  | KnownOfClone
  | KnownOfManifest;

/** For the thread that calls. */
export function knownFrom(data: KnownOf): Known {
  switch (data.kind) {
    case "nothing":
      return new NothingKnown(data.upperBirth);
    case "inodes":
      return new InodesKnown();
    case "clone":
      return new CloneKnown(data);
    case "manifest":
      return new ManifestKnown(data);
    default:
      return data satisfies never;
  }
}
