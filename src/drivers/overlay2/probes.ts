/**
 * Everything overlay2 asks of a host, each question by itself, each answered by trying it on the file system that will hold
 * the layers. Nothing is left behind. `lamella info --why` shows the answers; the driver itself asks once, see ./host.ts.
 */
import { fileSystemName } from "../../fs/file-system-name.ts";
import { kernelAtLeast } from "../../fs/overlay-mount.ts";
import { whyNoProjectQuota } from "../../fs/project-quota.ts";
import { type ByteString, textOfBytes } from "../../lib/bytes.ts";
import { AT_FDCWD, O_CREAT, O_WRONLY, RENAME_WHITEOUT, S_IFCHR, S_IFMT } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { ProbeResult } from "../driver.ts";
import { nearestDirectory, withTrialDirectory } from "../trial-directory.ts";
import { candidates, knowsIndex } from "./host.ts";
import {
  inUserNamespace,
  makeTrialLayers,
  mayMount,
  reasonOf,
  type Seen,
  seeDType,
  seeMetacopy,
  seeRedirect,
  type TrialLayers,
  withTrialMount,
} from "./trial.ts";

interface Question {
  readonly name: string;
  readonly required: boolean;
  readonly remedy: string;
  /** Answered by no when the one before has been. */
  readonly after?: "privileges" | "overlay_mount";
  readonly ask: (layers: TrialLayers) => Seen;
}

/** Errors: those of making a directory near `home`. */
export function probeOverlay2(home: ByteString): readonly ProbeResult[] {
  const userNamespace = inUserNamespace();
  const plain = candidates(userNamespace, knowsIndex()).at(-1) ?? [];
  const results: ProbeResult[] = [];
  withTrialDirectory(home, (directory) => {
    for (const question of questions(home, userNamespace, plain)) {
      const { name, required } = question;
      const before = results.find((result) => result.name === question.after);
      if (before !== undefined && !before.ok) {
        const remedy = before.remedy ?? question.remedy;
        results.push({
          name,
          ok: false,
          reason: before.reason.startsWith("not tried") ? before.reason : `not tried: ${before.reason}`,
          remedy,
          required,
        });
        continue;
      }
      const { ok, reason } = answer(question, makeTrialLayers(directory, name));
      results.push(ok ? { name, ok, reason, required } : { name, ok, reason, remedy: question.remedy, required });
    }
  });
  return results;
}

function answer(question: Question, layers: TrialLayers): Seen {
  try {
    return question.ask(layers);
  } catch (error) {
    return { ok: false, reason: reasonOf(error) };
  }
}

function questions(home: ByteString, userNamespace: boolean, plain: readonly string[]): readonly Question[] {
  const prefix = userNamespace ? "user.overlay." : "trusted.overlay.";
  const rootOnly = "run as root outside a user namespace";
  const otherFileSystem = "put the root on ext4, xfs, btrfs or tmpfs (`--root`)";
  return [
    {
      name: "privileges",
      required: true,
      remedy: "run as root, or in a user and mount namespace of your own (`unshare -r -m`)",
      ask: () => (mayMount() ? yes("this process has CAP_SYS_ADMIN") : no("mounting needs CAP_SYS_ADMIN")),
    },
    {
      name: "overlay_mount",
      after: "privileges",
      required: true,
      remedy: userNamespace
        ? "overlay mounts in a user namespace need Linux 5.11; a mount namespace too (`unshare -r -m`)"
        : "run as root, load the module `overlay`, and see `dmesg` for lines of overlayfs",
      ask: (layers) => withTrialMount(layers, plain, () => yes(`an overlay mounts (${plain.join(",")})`)),
    },
    {
      name: "backing_file_system",
      required: false,
      remedy: otherFileSystem,
      ask: () => {
        const name = fileSystemName(sys.statfs(nearestDirectory(home)).type);
        const good = ["extfs", "xfs", "btrfs", "tmpfs", "f2fs", "bcachefs"].includes(name);
        return {
          ok: good,
          reason: `${textOfBytes(home)} is on ${name}${good ? "" : ", which overlay2 is not known to work on"}`,
        };
      },
    },
    {
      name: "d_type",
      required: true,
      remedy: "make the file system anew: mkfs.xfs with `-n ftype=1`, or ext4 with the feature `filetype`",
      ask: (layers) => seeDType(layers.lower),
    },
    {
      name: "xattr",
      required: true,
      remedy: userNamespace
        ? `${otherFileSystem}; tmpfs keeps user attributes since Linux 6.6`
        : `${rootOnly}, or ${otherFileSystem}`,
      ask: (layers) => {
        sys.lsetxattrat(AT_FDCWD, layers.upper, `${prefix}opaque`, Buffer.from("y"));
        return sys.lgetxattrat(AT_FDCWD, layers.upper, `${prefix}opaque`)?.toString() === "y"
          ? yes(`attributes ${prefix}* are kept`)
          : no(`attributes ${prefix}* are not kept`);
      },
    },
    {
      name: "whiteout_mknod",
      required: true,
      remedy: "device 0:0 may be made without privileges since Linux 5.8; seccomp or the file system may forbid it",
      ask: (layers) => {
        sys.mknodat(AT_FDCWD, `${layers.upper}/whiteout`, S_IFCHR, 0, 0);
        return yes("a whiteout (character device 0:0) can be made");
      },
    },
    {
      name: "rename_whiteout",
      required: true,
      remedy: `${otherFileSystem}, or ZFS 2.2 and later`,
      ask: (layers) => {
        using file = sys.open(`${layers.upper}/a`, O_WRONLY | O_CREAT, 0o600);
        const r = raw.renameat2(AT_FDCWD, `${layers.upper}/a`, AT_FDCWD, `${layers.upper}/b`, RENAME_WHITEOUT);
        if (r < 0) return no(`renameat2 with RENAME_WHITEOUT gave errno ${-r}`);
        void file;
        return isWhiteout(`${layers.upper}/a`) ? yes("RENAME_WHITEOUT works") : no("RENAME_WHITEOUT left no whiteout");
      },
    },
    {
      name: "remove_lower",
      after: "overlay_mount",
      required: true,
      remedy: userNamespace ? "the mount must have the option userxattr (Linux 5.11)" : otherFileSystem,
      ask: (layers) =>
        withTrialMount(layers, plain, (rootFd) => {
          sys.unlinkat(rootFd, "dir/file");
          sys.unlinkat(rootFd, "dir", 0x200);
          return isWhiteout(`${layers.upper}/dir`)
            ? yes("removing a lower directory leaves a whiteout")
            : no("no whiteout");
        }),
    },
    {
      name: "opaque_bug",
      after: "overlay_mount",
      required: false,
      remedy: "Linux 4.8 and later copy no opaque mark up",
      ask: (layers) => {
        sys.lsetxattrat(AT_FDCWD, `${layers.lower}/dir`, `${prefix}opaque`, Buffer.from("y"));
        return withTrialMount(layers, plain, (rootFd) => {
          using made = new sys.OwnedFd(sys.openat(rootFd, "dir/new", O_WRONLY | O_CREAT, 0o600));
          void made;
          return sys.lgetxattrat(AT_FDCWD, `${layers.upper}/dir`, `${prefix}opaque`) === undefined
            ? yes("the kernel copies no opaque mark up")
            : no("the kernel copies a lower directory's opaque mark up");
        });
      },
    },
    {
      name: "redirect_dir",
      after: "overlay_mount",
      required: false,
      remedy: `${userNamespace ? rootOnly : "Linux 4.10 and later have it"}; without it renaming a directory of a lower layer copies it`,
      ask: (layers) => withTrialMount(layers, [...plain, "redirect_dir=on"], (rootFd) => seeRedirect(layers, rootFd)),
    },
    {
      name: "metacopy",
      after: "overlay_mount",
      required: false,
      remedy: `${userNamespace ? rootOnly : "Linux 4.19 and later have it"}; without it chown and chmod copy the data of lower files`,
      ask: (layers) =>
        withTrialMount(
          layers,
          [...plain.filter((o) => o !== "userxattr"), "redirect_dir=on", "metacopy=on"],
          (rootFd) => seeMetacopy(layers, rootFd),
        ),
    },
    {
      name: "userxattr",
      after: "privileges",
      required: userNamespace,
      remedy: "Linux 5.11 and later have it, with file systems that keep user attributes",
      ask: (layers) =>
        withTrialMount(layers, [...plain.filter((o) => o !== "userxattr"), "userxattr"], (rootFd) => {
          sys.mkdirat(rootFd, "made", 0o755);
          return yes(`an overlay mounts with userxattr${userNamespace ? "" : " (not needed here)"}`);
        }),
    },
    {
      name: "project_quota",
      required: false,
      remedy:
        "put the root on xfs mounted with `pquota`, or ext4 with `prjquota`; without it layers have no size limit",
      ask: ({ upper }) => {
        const reason = whyNoProjectQuota(upper);
        return reason === undefined ? yes("layers can have a size limit (project quotas)") : no(reason);
      },
    },
    {
      name: "layer_by_layer",
      required: false,
      remedy: "Linux 6.8 and later have it; before, more than about 130 layers are mounted by descriptor numbers",
      ask: () =>
        kernelAtLeast(6, 8)
          ? yes("the kernel takes layers one by one (fsconfig lowerdir+)")
          : no("Linux is older than 6.8"),
    },
  ];
}

function isWhiteout(path: ByteString): boolean {
  const stat = sys.statIfExists(AT_FDCWD, path);
  return stat !== undefined && (stat.mode & S_IFMT) === S_IFCHR && stat.rdevMajor === 0 && stat.rdevMinor === 0;
}

function yes(reason: string): Seen {
  return { ok: true, reason };
}

function no(reason: string): Seen {
  return { ok: false, reason };
}
