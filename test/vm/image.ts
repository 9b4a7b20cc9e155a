/**
 * The root file system of the machine: a minimal Debian made by debootstrap, the tools of the tests, and this Node.js.
 *
 *     root-KEY/root.ext4   the disk; every machine writes to a copy of its own
 *     root-KEY/busybox     its statically linked busybox, for the initramfs
 */
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AptRelease, type Mirrors, output } from "./apt.ts";
import { cached, keyOf } from "./cache.ts";
import { makeDisk } from "./disk.ts";

const suite = "bookworm";

/** What is in the image beside Debian's essential packages. */
const packages = [
  "libstdc++6", // Node.js
  "busybox-static", // the initramfs, and the smallest image that runs
  "mount",
  "util-linux", // losetup, unshare
  "procps",
  "kmod",
  "iproute2",
  "e2fsprogs",
  "xfsprogs",
  "btrfs-progs",
  "quota",
  "attr",
  "acl",
  "dmsetup",
  "lvm2",
  "thin-provisioning-tools",
  "strace",
  "systemd", // the init of the boots that ask for it
];

/** Unpacked only, as these would start services when they are installed. */
const unpacked = ["docker.io", "containerd", "runc"];

/** Room for what the tests write; the disk is sparse. */
const sizeMiB = 16 * 1024;

const lvmWithoutUdev = `activation { udev_sync = 0 udev_rules = 0 }
devices { obtain_device_list_from_udev = 0 external_device_info_source = "none" }
backup { backup = 0 archive = 0 }
`;

/** Neither read by a test nor by a tool in the machine. */
const dispensable = ["usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists"];

export interface RootImage {
  readonly disk: string;
  readonly busybox: string;
}

/** The image, from the cache or made anew, which takes a minute or two. */
export function prepareImage(mirrors: Mirrors): RootImage {
  const key = keyOf(mirrors.main, readFileSync(process.execPath), readFileSync(import.meta.filename));
  const directory = cached("root", key, (home) => {
    const root = join(home, "tree");
    // The namespaces end with debootstrap and take what it mounts along.
    const apart = ["--mount", "--pid", "--fork", "--kill-child", "debootstrap"];
    output("unshare", [...apart, "--variant=minbase", `--include=${packages.join(",")}`, suite, root, mirrors.main]);
    unpack(root, home, mirrors);
    for (const path of dispensable) rmSync(join(root, path), { recursive: true, force: true });
    mkdirSync(join(root, "project"));
    copyFileSync(process.execPath, join(root, "usr/local/bin/node"));
    writeFileSync(join(root, "etc/hostname"), "lamella-vm\n");
    writeFileSync(join(root, "etc/fstab"), "");
    writeFileSync(join(root, "etc/lvm/lvmlocal.conf"), lvmWithoutUdev);
    output("chroot", [root, "node", "--version"]);
    copyFileSync(join(root, "bin/busybox"), join(home, "busybox"));
    makeDisk(root, join(home, "root.ext4"), sizeMiB);
    rmSync(root, { recursive: true });
  });
  return { disk: join(directory, "root.ext4"), busybox: join(directory, "busybox") };
}

function unpack(root: string, home: string, mirrors: Mirrors): void {
  const release = new AptRelease(suite, mirrors);
  for (const name of unpacked) {
    const folder = join(home, name);
    mkdirSync(folder);
    const file = release.download(release.candidate(name), folder);
    // Not `dpkg -x`, which puts directories in the place of /lib and /sbin, links into /usr.
    const script = 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"';
    output("sh", ["-euc", script, "sh", file, root]);
    rmSync(folder, { recursive: true });
  }
}
