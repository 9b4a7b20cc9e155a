/** Makes fuse-overlay drivers. */
import { LamellaError } from "../../errors/lamella-error.ts";
import { makeDirectory } from "../../fs/durable-file.ts";
import { umount } from "../../fs/mounts.ts";
import type { ByteString } from "../../lib/bytes.ts";
import { isWhiteoutDevice } from "../../overlayfs/layer-stack.ts";
import { AT_FDCWD, O_RDWR } from "../../sys/constants.ts";
import * as raw from "../../sys/raw.ts";
import * as sys from "../../sys/syscalls.ts";
import type { DriverFactory, ProbeResult } from "../driver.ts";
import { unsupported } from "../layer-errors.ts";
import { readOptions } from "../option-values.ts";
import { linkedFolders } from "../overlay2/layout.ts";
import { inUserNamespace, makeTrialLayers, mayMount, reasonOf } from "../overlay2/trial.ts";
import { withTrialDirectory } from "../trial-directory.ts";
import { FuseOverlayDriver } from "./fuse-overlay.ts";
import { noteMarks } from "./home-marks.ts";
import type { LayerMounter } from "./layer-mounter.ts";
import { MountProgram } from "./mount-program.ts";
import { OwnServers } from "./own-servers.ts";

/** Our own program, in place of a path. */
const OWN = "lamella-overlay";

export const fuseOverlayFactory: DriverFactory = {
  name: "fuse-overlay",
  layersFolder: "",
  probe,
  open: async (home, given) => {
    const userNamespace = inUserNamespace();
    const named = readOptions("fuse-overlay", given).text("fuse_overlay.mount_program");
    const isOwn = named === undefined || named === OWN;
    const mounter: LayerMounter = isOwn ? new OwnServers(home, { userNamespace }) : new MountProgram(named, home);
    for (const need of needs) {
      const why = need.lacking();
      if (why !== undefined) throw unsupported("fuse-overlay", home, why, need.remedy);
    }
    for (const [name, mode] of linkedFolders) makeDirectory(`${home}${name}`, mode);
    noteMarks(home, { isOwn });
    return new FuseOverlayDriver(home, mounter, { userNamespace });
  },
};

interface Need {
  readonly name: string;
  readonly remedy: string;
  readonly found: string;
  /** What is missing. */
  readonly lacking: () => string | undefined;
}

const needs: readonly Need[] = [
  {
    name: "privileges",
    remedy: "run as root, or in a user and mount namespace of your own (`unshare -r -m`)",
    found: "this process has CAP_SYS_ADMIN",
    lacking: () => (mayMount() ? undefined : "mounting needs CAP_SYS_ADMIN"),
  },
  {
    name: "fuse",
    remedy: "load the module `fuse`, and make /dev/fuse (character device 10:229) accessible",
    found: "/dev/fuse can be opened",
    lacking: () => {
      const fd = raw.openat(AT_FDCWD, "/dev/fuse", O_RDWR);
      if (fd < 0) return `opening /dev/fuse gave errno ${-fd}`;
      raw.close(fd);
      return undefined;
    },
  },
];

async function probe(home: ByteString): Promise<readonly ProbeResult[]> {
  const results: ProbeResult[] = needs.map(({ name, remedy, found, lacking }) => {
    const reason = lacking();
    return reason === undefined
      ? { name, ok: true, reason: found, required: true }
      : { name, ok: false, reason, remedy, required: true };
  });
  const tried = results.every((result) => result.ok) ? await tryMount(home) : undefined;
  if (tried !== undefined) return [...results, ...tried];
  const reason = `not tried: ${results.find((result) => !result.ok)?.reason}`;
  return [...results, { name: "fuse_mount", ok: false, reason, remedy: needs[0]?.remedy ?? "", required: true }];
}

/** Mounts a trial by our own program, and removes a directory of its lower layer. */
async function tryMount(home: ByteString): Promise<ProbeResult[]> {
  const remedy = "name another program that mounts layers, with `--driver-opt fuse_overlay.mount_program=PATH`";
  const resting: Promise<void>[] = [];
  try {
    return withTrialDirectory(home, (directory) => {
      const program = new OwnServers(directory, { userNamespace: inUserNamespace() });
      const { lower, upper, target } = makeTrialLayers(directory, "0");
      const layers = { lowers: ["0/lower"], upper: "0/upper", work: "0/work", volatile: true, fileMarks: false };
      try {
        program.mount(layers, target);
        sys.unlinkat(AT_FDCWD, `${target}/dir/file`);
        sys.unlinkat(AT_FDCWD, `${target}/dir`, 0x200);
      } finally {
        umount(target);
        resting.push(program.rest());
      }
      const device = sys.statIfExists(AT_FDCWD, `${upper}/dir`);
      const how =
        device === undefined ? undefined : isWhiteoutDevice(device) ? "a device 0:0" : "a file with an attribute";
      if (how === undefined || sys.statIfExists(AT_FDCWD, `${lower}/dir/file`) === undefined)
        throw new LamellaError(
          "failed_precondition",
          "FUSE_MOUNT",
          `${program.path} leaves no mark of a removed directory`,
        );
      return [
        { name: "fuse_mount", ok: true, reason: `${program.path} mounts layers`, required: true },
        { name: "whiteouts", ok: true, reason: `removing a lower directory leaves ${how}`, required: true },
      ];
    });
  } catch (error) {
    return [{ name: "fuse_mount", ok: false, reason: reasonOf(error), remedy, required: true }];
  } finally {
    await Promise.all(resting);
  }
}
