/**
 * File systems that another machine has a part in, by the names they have in mountinfo (without the `fuse.` of those that a
 * program serves) and from statfs.
 */
import type { RootFacts } from "../facts.ts";

/**
 * - `network`: the files are another machine's;
 * - `cluster`: several machines write to one disk;
 * - `host`: a directory that the host of this virtual machine shares with it.
 */
export type RemoteKind = "network" | "cluster" | "host";

const names: Readonly<Record<RemoteKind, string>> = {
  network: `nfs nfs4 smb smb2 smb3 smbfs cifs ncpfs afs auristorfs coda ceph ceph-fuse glusterfs lustre beegfs fhgfs pvfs2
    orangefs panfs moosefs mfs lizardfs seaweedfs juicefs alluxio-fuse fuse_dfs cvmfs2 sshfs s3fs s3ql goofys mountpoint-s3
    gcsfuse blobfuse blobfuse2 rclone davfs davfs2 curlftpfs smbnetfs gvfsd-fuse`,
  cluster: "ocfs2 gfs gfs2 gpfs acfs snfs",
  host: "9p virtiofs vboxsf vmhgfs vmhgfs-fuse prl_fs",
};

const kinds: ReadonlyMap<string, RemoteKind> = new Map(
  (["network", "cluster", "host"] as const).flatMap((kind) =>
    names[kind].split(/\s+/).map((name) => [name, kind] as const),
  ),
);

/** Undefined for one that is all this machine's, or that nobody knows. */
export function remoteFileSystem({
  mountType = "",
  fileSystem = "",
  device = "",
}: Partial<Pick<RootFacts, "mountType" | "fileSystem" | "device">>): { name: string; kind: RemoteKind } | undefined {
  // statfs calls all that programs serve `fuse`, and virtiofs too; some programs give their name as the device alone.
  const candidates = [mountType.replace(/^fuse\./, ""), fileSystem, ...(mountType === "fuse" ? [device] : [])];
  for (const name of candidates) {
    const kind = kinds.get(name);
    if (kind !== undefined) return { name, kind };
  }
  return undefined;
}
