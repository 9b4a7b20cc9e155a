/**
 * The capabilities a container's processes may have: the set Docker gives without options. Numbers are those of
 * include/uapi/linux/capability.h.
 */

/** Name and number of each capability in the default set. */
export const defaultCapabilities: ReadonlyMap<string, number> = new Map([
  ["CAP_CHOWN", 0],
  ["CAP_DAC_OVERRIDE", 1],
  ["CAP_FOWNER", 3],
  ["CAP_FSETID", 4],
  ["CAP_KILL", 5],
  ["CAP_SETGID", 6],
  ["CAP_SETUID", 7],
  ["CAP_SETPCAP", 8],
  ["CAP_NET_BIND_SERVICE", 10],
  ["CAP_NET_RAW", 13],
  ["CAP_SYS_CHROOT", 18],
  ["CAP_MKNOD", 27],
  ["CAP_AUDIT_WRITE", 29],
  ["CAP_SETFCAP", 31],
]);

/** The highest number a capability can have in the 64-bit sets. */
export const LAST_CAPABILITY = 63;

/** Parts of /proc and /sys a container may not look into. */
export const maskedPaths = [
  "/proc/asound",
  "/proc/acpi",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/sys/firmware",
  "/sys/devices/virtual/powercap",
] as const;

/** Parts of /proc a container may only read. */
export const readOnlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] as const;
