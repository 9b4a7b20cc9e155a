/** Names of file systems by their magic numbers (linux/magic.h, stat(1)), as `docker info` prints those it knows. */

const names: ReadonlyMap<number, string> = new Map([
  [0x61756673, "aufs"],
  [0x9123683e, "btrfs"],
  [0x28cd3d45, "cramfs"],
  [0xf15f, "ecryptfs"],
  [0xef53, "extfs"],
  [0xf2f52010, "f2fs"],
  [0x65735546, "fuse"],
  [0x47504653, "gpfs"],
  [0x3153464a, "jfs"],
  [0x6969, "nfs"],
  [0x794c7630, "overlayfs"],
  [0x858458f6, "ramfs"],
  [0x52654973, "reiserfs"],
  [0x517b, "smb"],
  [0x73717368, "squashfs"],
  [0x01021994, "tmpfs"],
  [0xca451a4e, "bcachefs"],
  [0xa501fcf5, "vxfs"],
  [0x58465342, "xfs"],
  [0x2fc12fc1, "zfs"],
  [0x01021997, "9p"],
  [0x5346544e, "ntfs"],
  [0xff534d42, "cifs"],
  [0xfe534d42, "smb2"],
  [0x00c36400, "ceph"],
  [0x5346414f, "afs"],
  [0x6b414653, "afs"],
  [0x73757245, "coda"],
  [0x0bd00bd0, "lustre"],
  [0x19830326, "beegfs"],
  [0x20030528, "orangefs"],
  [0xaad7aaea, "panfs"],
  [0x7461636f, "ocfs2"],
  [0x01161970, "gfs2"],
  [0x61636673, "acfs"],
  [0xbeefdead, "snfs"],
  [0x786f4256, "vboxsf"],
  [0xbacbacbc, "vmhgfs"],
  [0x7c7c6673, "prl_fs"],
]);

/** The name for statfs's `f_type`; `<unknown>` for one not listed. */
export function fileSystemName(magic: number): string {
  return names.get(magic >>> 0) ?? "<unknown>";
}
