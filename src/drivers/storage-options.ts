/**
 * Every `--storage-opt` of every driver: Docker's, in the order of its reference, and Lamella's own. This one table says what
 * may be given (./option-values.ts), what the errors suggest, and what `lamella info --help` and docs/drivers.md tell.
 *
 * `docker` names the engine versions that have an option, with a removal as `1.13–23`; where it is missing the option is
 * Lamella's own. An option with `gone` is an error that says so: a setting that does nothing should not look as if it did.
 */

export interface StorageOption {
  /** Lower case, with the prefix Docker gives it. */
  readonly name: string;
  readonly value: "size" | "boolean" | "percent" | "number" | "text" | "on or off";
  /** One line, without a full stop. */
  readonly meaning: string;
  /** What holds when it is not given. */
  readonly standard: string;
  readonly docker?: string;
  /** What became of it, as the end of the sentence "NAME was ...". */
  readonly gone?: string;
}

/** The options of each driver by its name. A driver without any is in it too. */
export const storageOptions = {
  overlay2: [
    {
      name: "overlay2.size",
      value: "size",
      meaning: "limit of every new writable layer (xfs or ext4 with project quotas)",
      standard: "no limit",
      docker: "17.07",
    },
    {
      name: "overlay2.redirect_dir",
      value: "on or off",
      meaning: "rename directories of lower layers without copying them",
      standard: "on where the kernel can",
    },
    {
      name: "overlay2.metacopy",
      value: "on or off",
      meaning: "chown and chmod files of lower layers without copying their data",
      standard: "on where the kernel can",
    },
    {
      name: "overlay2.override_kernel_check",
      value: "boolean",
      meaning: "run on kernels older than 4.0",
      standard: "false",
      docker: "1.12–23",
      gone: "removed in Docker 24, and has no effect: what the kernel can do is tried",
    },
  ],
  "fuse-overlay": [
    {
      name: "fuse_overlay.mount_program",
      value: "text",
      meaning:
        "absolute path of a program that mounts the layers, such as fuse-overlayfs; `lamella-overlay` for Lamella's own",
      standard: "lamella-overlay",
    },
  ],
  btrfs: [
    {
      name: "btrfs.min_space",
      value: "size",
      meaning: "the least that a layer's limit (`size`) may be; turns quotas on",
      standard: "none",
      docker: "1.12",
    },
  ],
  zfs: [
    {
      name: "zfs.fsname",
      value: "text",
      meaning: "dataset below which the layers' datasets are made",
      standard: "the one that holds the root",
      docker: "1.7",
    },
  ],
  vfs: [
    {
      name: "size",
      value: "size",
      meaning: "limit of every new writable layer (xfs or ext4 with project quotas)",
      standard: "no limit",
      docker: "17.12",
    },
    {
      name: "vfs.xattrs",
      value: "text",
      meaning: "`i_want_broken_containers`: attributes that the file system does not keep are left out, as always here",
      standard: "the same, with no line of it in `info`",
      docker: "25",
    },
  ],
  aufs: [],
  overlay: [],
  devicemapper: [
    {
      name: "dm.thinpooldev",
      value: "text",
      meaning: "thin pool to use, made by the administrator",
      standard: "the pool is made by the driver",
      docker: "1.4–24",
    },
    {
      name: "dm.directlvm_device",
      value: "text",
      meaning: "block device on which a thin pool is set up (direct-lvm)",
      standard: "loop files",
      docker: "17.06–24",
    },
    {
      name: "dm.thinp_percent",
      value: "percent",
      meaning: "share of dm.directlvm_device that holds data",
      standard: "95",
      docker: "17.06–24",
    },
    {
      name: "dm.thinp_metapercent",
      value: "percent",
      meaning: "share of dm.directlvm_device that holds metadata",
      standard: "1",
      docker: "17.06–24",
    },
    {
      name: "dm.thinp_autoextend_threshold",
      value: "percent",
      meaning: "use of the pool from which lvm extends it; 100 for never",
      standard: "80",
      docker: "17.06–24",
    },
    {
      name: "dm.thinp_autoextend_percent",
      value: "percent",
      meaning: "by how much of its size lvm extends the pool",
      standard: "20",
      docker: "17.06–24",
    },
    {
      name: "dm.directlvm_device_force",
      value: "boolean",
      meaning: "set up dm.directlvm_device even when there is a file system on it",
      standard: "false",
      docker: "17.06–24",
    },
    {
      name: "dm.basesize",
      value: "size",
      meaning: "size of the base device, and so the limit of every layer; can grow, never shrink",
      standard: "10G",
      docker: "0.12–24",
    },
    {
      name: "dm.loopdatasize",
      value: "size",
      meaning: "size of the loop file for data, when the pool is made",
      standard: "100G",
      docker: "0.12–24",
    },
    {
      name: "dm.loopmetadatasize",
      value: "size",
      meaning: "size of the loop file for metadata, when the pool is made",
      standard: "2G",
      docker: "0.12–24",
    },
    {
      name: "dm.fs",
      value: "text",
      meaning: "file system of the base device: `ext4` or `xfs`",
      standard: "xfs where it can be made and mounted, else ext4",
      docker: "0.12–24",
    },
    {
      name: "dm.mkfsarg",
      value: "text",
      meaning: "further argument of mkfs for the base device",
      standard: "none",
      docker: "0.12–24",
    },
    {
      name: "dm.mountopt",
      value: "text",
      meaning: "further mount options of the thin devices",
      standard: "none",
      docker: "0.12–24",
    },
    {
      name: "dm.datadev",
      value: "text",
      meaning: "block device for the pool's data; dm.thinpooldev is the better way",
      standard: "a loop file",
      docker: "0.12–24",
    },
    {
      name: "dm.metadatadev",
      value: "text",
      meaning: "block device for the pool's metadata; dm.thinpooldev is the better way",
      standard: "a loop file",
      docker: "0.12–24",
    },
    {
      name: "dm.blocksize",
      value: "size",
      meaning: "block size of the thin pool, when it is made",
      standard: "64K",
      docker: "1.2–24",
    },
    {
      name: "dm.blkdiscard",
      value: "boolean",
      meaning: "give a removed device's blocks back to the loop file",
      standard: "true on loop files, else false",
      docker: "0.12–24",
    },
    {
      name: "dm.override_udev_sync_check",
      value: "boolean",
      meaning: "go on though udev and device mapper do not wait for each other; without effect here",
      standard: "false",
      docker: "1.7–24",
    },
    {
      name: "dm.use_deferred_removal",
      value: "boolean",
      meaning: "a device that is busy is removed when it is free",
      standard: "true where the kernel can (Linux 3.13)",
      docker: "1.7–24",
    },
    {
      name: "dm.use_deferred_deletion",
      value: "boolean",
      meaning: "a device that is busy is deleted when it is free; needs dm.use_deferred_removal",
      standard: "as dm.use_deferred_removal",
      docker: "1.9–24",
    },
    {
      name: "dm.min_free_space",
      value: "percent",
      meaning: "share of the pool that must be free for a new device",
      standard: "10%",
      docker: "1.11–24",
    },
    {
      name: "dm.xfs_nospace_max_retries",
      value: "number",
      meaning: "how often xfs tries a write again when the pool is full",
      standard: "unlimited, as the kernel has it",
      docker: "1.13–24",
    },
    {
      name: "dm.libdm_log_level",
      value: "text",
      meaning: "what libdm logs, 2 to 7; without effect here: libdm is not used",
      standard: "none",
      docker: "17.07–24",
    },
  ],
} as const satisfies Readonly<Record<string, readonly StorageOption[]>>;

export type DriverName = keyof typeof storageOptions;

/** Names of the options a driver takes today. */
export type OptionName<D extends DriverName> = Exclude<
  (typeof storageOptions)[D][number],
  { readonly gone: string }
>["name"];
