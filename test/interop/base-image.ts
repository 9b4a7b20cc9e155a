/**
 * The image all interop tests build on: busybox and a tree that holds one of everything an image layer can: hard links,
 * symbolic links to directories, a fifo, a device, setuid and file capabilities, foreign owners. Made in memory as a docker
 * archive of two layers, so that both sides load the very same image.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dockerArchive, memberTimeSec, type TarMember, tarOf } from "../support/image-archive.ts";

export const baseName = "base:latest";

const busyboxPath = ["/bin/busybox", "/usr/bin/busybox"].find((path) => existsSync(path));

/** The archive of the base image, or the reason why it cannot be made here. */
export function baseArchive(): Buffer | string {
  if (busyboxPath === undefined) return "busybox-static is not installed";
  const busybox = readFileSync(busyboxPath);
  if (busybox.includes("/lib64/ld-linux") || busybox.includes("/ld-musl-"))
    return `${busyboxPath} is not linked statically`;
  const created = new Date(memberTimeSec * 1000).toISOString().replace(".000", "");
  return dockerArchive({
    config: {
      architecture: process.arch === "x64" ? "amd64" : process.arch,
      os: "linux",
      created,
      config: {
        Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        Cmd: ["sh"],
        Labels: { "base.kind": "fixture", "base.keep": "yes" },
      },
      history: [
        { created, created_by: "tools" },
        { created, created_by: "fixtures" },
      ],
    },
    layers: [tarOf(tools(busybox)), tarOf(fixtures())],
    tags: [baseName],
  });
}

function directory(name: string, more: Partial<TarMember> = {}): TarMember {
  return { name: `${name}/`, type: "directory", ...more };
}

function symlink(name: string, linkName: string): TarMember {
  return { name, type: "symlink", linkName };
}

function tools(busybox: Buffer): TarMember[] {
  const applets = execFileSync(busyboxPath ?? "", ["--list"], { encoding: "utf8" })
    .trim()
    .split("\n");
  return [
    directory("bin"),
    { name: "bin/busybox", content: busybox, mode: 0o755 },
    ...applets.filter((name) => name !== "busybox").map((name) => symlink(`bin/${name}`, "busybox")),
    directory("dev"),
    directory("etc"),
    {
      name: "etc/passwd",
      content: "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/srv:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
    },
    { name: "etc/group", content: "root:x:0:\nwww:x:33:\nstaff:x:50:app\napp:x:1001:\n" },
    directory("home"),
    directory("home/app", { uid: 1000, gid: 1001, mode: 0o750 }),
    directory("proc", { mode: 0o555 }),
    directory("root", { mode: 0o700 }),
    directory("run"),
    directory("sys", { mode: 0o555 }),
    directory("tmp", { mode: 0o1777 }),
    directory("usr"),
    directory("usr/bin"),
    symlink("usr/bin/env", "../../bin/busybox"),
    directory("var"),
    symlink("var/run", "/run"),
    symlink("var/lock", "../run/lock"),
  ];
}

/** `security.capability` with cap_net_raw+ep: version 2 (linux/capability.h), magic with the effective bit, two masks each. */
const netRaw = Buffer.from("0100000200200000000000000000000000000000", "hex");

function fixtures(): TarMember[] {
  const many = ["one", "two", "three"].flatMap((name) => [
    directory(`srv/many/${name}`),
    directory(`srv/many/${name}/deep`),
    ...["a", "b", "c"].map((file) => ({ name: `srv/many/${name}/${file}.txt`, content: `${name} ${file}\n` })),
    { name: `srv/many/${name}/deep/d.txt`, content: `${name} deep\n` },
  ]);
  return [
    directory("opt"),
    { name: "opt/capable", content: "capable\n", mode: 0o755, xattrs: { "security.capability": netRaw } },
    { name: "opt/fifo", type: "fifo" },
    directory("opt/links"),
    { name: "opt/links/one", content: "linked\n" },
    { name: "opt/links/three", type: "hardlink", linkName: "opt/links/one" },
    { name: "opt/links/two", type: "hardlink", linkName: "opt/links/one" },
    { name: "opt/null", type: "char", device: [1, 3], mode: 0o666 },
    { name: "opt/setuid", content: "#!/bin/sh\necho setuid\n", mode: 0o4755 },
    directory("opt/sticky", { mode: 0o3777, gid: 50 }),
    directory("srv", { uid: 33, gid: 33 }),
    { name: "srv/config.ini", content: "[main]\n", uid: 33, gid: 33, mode: 0o640 },
    symlink("srv/current", "many/one"),
    symlink("srv/dangling", "/nowhere"),
    symlink("srv/file-link", "config.ini"),
    directory("srv/many"),
    ...many,
  ];
}
