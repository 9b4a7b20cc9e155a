/**
 * The machines that are booted, and what each runs; the longest first, since they run beside each other.
 *
 * To add a test: put `NAME.test.ts` into `test/vm/guest/`. It runs in "plain" unless another boot lists it here. A test of the
 * rest of the project runs where a boot lists it; a file may be listed by several.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { KernelLine } from "./kernel.ts";

export interface Boot {
  /** What it is for, in the report. */
  readonly about: string;
  readonly kernel: KernelLine;
  /** Options of modules, as modprobe.d has them. */
  readonly moduleOptions: readonly string[];
  /** Test files, by their path in the repository. */
  readonly files: readonly string[];
  /** What the tests find in their environment. */
  readonly environment: Readonly<Record<string, string>>;
  /** A test may ask for a reboot (/reboot-wanted): its file runs again afterwards, and the disks are as they were. */
  readonly reboots?: boolean;
  /** What the machine is run by, and its job is a service of: the tests find the engines as a distribution starts them. */
  readonly init?: "systemd";
}

const guest = "test/vm/guest";

const listed: Readonly<Record<string, Boot>> = {
  devicemapper: {
    about: "the driver suite on devicemapper",
    kernel: "6.1",
    moduleOptions: [],
    files: [`${guest}/devicemapper-suite.test.ts`],
    environment: {},
  },
  devices: {
    about: "the device mapper and project quotas",
    kernel: "6.1",
    moduleOptions: [],
    files: [
      `${guest}/thin-pool.test.ts`,
      `${guest}/devicemapper.test.ts`,
      `${guest}/migrate-devicemapper.test.ts`,
      `${guest}/doctor-devicemapper.test.ts`,
      `${guest}/doctor-xfs.test.ts`,
      `${guest}/project-quota.test.ts`,
      `${guest}/quota.test.ts`,
    ],
    environment: {},
  },
  plain: {
    about: "Debian's kernel as it comes",
    kernel: "6.1",
    moduleOptions: [],
    files: [
      "test/mount/diff-property.test.ts",
      "test/mount/drivers-overlay2.test.ts",
      "test/mount/layer-record.test.ts",
      "test/mount/layer-stack.test.ts",
      "test/mount/overlay-mount.test.ts",
      "test/mount/upper-differ.test.ts",
    ],
    environment: { LAMELLA_TEST_RUNS: "3" },
  },
  redirect: {
    about: "the module of overlay loaded with redirect_dir and metacopy on",
    kernel: "6.1",
    moduleOptions: ["options overlay redirect_dir=on metacopy=on"],
    files: [`${guest}/module-options.test.ts`, "test/mount/drivers-overlay2.test.ts"],
    environment: {},
  },
  doctor: {
    about: "the module of overlay loaded with metacopy on, and a dockerd; the machine is booted twice",
    kernel: "6.1",
    moduleOptions: ["options overlay metacopy=on"],
    files: [`${guest}/doctor.test.ts`],
    environment: {},
    reboots: true,
  },
  systemd: {
    about: "run by systemd, with Docker as its service, and the module of overlay loaded with metacopy on",
    kernel: "6.1",
    moduleOptions: ["options overlay metacopy=on"],
    files: [`${guest}/doctor-systemd.test.ts`],
    environment: {},
    init: "systemd",
  },
  old: {
    about: "a kernel without attributes of the user namespace in overlays, mount_setattr and much else",
    kernel: "5.10",
    moduleOptions: [],
    files: [
      `${guest}/drivers.test.ts`,
      `${guest}/quota.test.ts`,
      "test/mount/overlay-mount.test.ts",
      "test/mount/upper-differ.test.ts",
      `${guest}/union.test.ts`,
    ],
    environment: { LAMELLA_TEST_RUNS: "3" },
  },
};

/** Every boot by its name, with the files of `test/vm/guest` that no boot lists in "plain". */
export function allBoots(): ReadonlyMap<string, Boot> {
  const taken = new Set(Object.values(listed).flatMap(({ files }) => files));
  const others = readdirSync(join(import.meta.dirname, "guest"))
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => `${guest}/${name}`)
    .filter((file) => !taken.has(file))
    .sort();
  return new Map(
    Object.entries(listed).map(([name, boot]) => [
      name,
      name === "plain" ? { ...boot, files: [...others, ...boot.files] } : boot,
    ]),
  );
}
