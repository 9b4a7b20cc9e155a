import assert from "node:assert/strict";
import { test } from "node:test";
import { parseUsage } from "./abilities.ts";
import { refusalOf } from "./programs.ts";

const zfsFuse = `missing command
usage: zfs command args ...
where 'command' is one of the following:

\tcreate [-p] [-o property=value] ... <filesystem>
\tdestroy [-rRf] <filesystem|volume>
\tdestroy [-rRd] <snapshot>

\tsnapshot [-r] [-o property=value] ... <filesystem@snapname|volume@snapname>
\tclone [-p] [-o property=value] ... <snapshot> <filesystem|volume>
`;
const zfsFuseProperties = `missing property argument
\tPROPERTY       EDIT  INHERIT   VALUES

\taclinherit      YES      YES   discard | noallow | restricted | passthrough | passthrough-x
\tatime           YES      YES   on | off
\txattr           YES      YES   on | off
`;
const openZfs = `missing command
usage: zfs command args ...
where 'command' is one of the following:

\tversion

\tcreate [-Pnpuv] [-o property=value] ... <filesystem>
\tdestroy [-fnpRrv] <filesystem|volume>
\tdestroy [-dnpRrv] <filesystem|volume>@<snap>[%<snap>][,...]
\tdestroy <filesystem|volume>#<bookmark>

\tdiff [-FHt] <snapshot> [snapshot|filesystem]
`;
const openZfsProperties = `missing property argument
\tPROPERTY       EDIT  INHERIT   VALUES

\tacltype         YES      YES   off | nfsv4 | posix
\txattr           YES      YES   on | off | dir | sa
`;

test("reads what the programs of OpenZFS and zfs-fuse can do", () => {
  assert.deepEqual(parseUsage(zfsFuse, zfsFuseProperties), {
    diff: false,
    deferredDestroy: true,
    posixAcl: false,
    xattrInInode: false,
  });
  assert.deepEqual(parseUsage(openZfs, openZfsProperties), {
    diff: true,
    deferredDestroy: true,
    posixAcl: true,
    xattrInInode: true,
  });
});

test("tells refusals apart", () => {
  const cases = {
    "cannot create snapshot 'p/a@s': dataset already exists": "exists",
    "cannot open 'p/a@s': dataset does not exist": "missing",
    "cannot destroy 'p/a': filesystem has dependent clones\nuse '-R' to destroy the following datasets:\np/b": "clones",
    "cannot destroy 'p/a': dataset is busy": "busy",
    "cannot mount 'p/a': mountpoint or dataset is busy": "busy",
    "cannot create 'p/a': permission denied": "denied",
    "cannot create 'p/a': out of space": "full",
    "connect: No such file or directory\nPlease make sure that the zfs-fuse daemon is running.": "down",
    "The ZFS modules are not loaded.\nTry running '/sbin/modprobe zfs' as root to load them.": "down",
    "cannot create 'p/a': dataset is on fire": "other",
  } as const;
  for (const [complaint, refusal] of Object.entries(cases)) assert.equal(refusalOf(complaint), refusal, complaint);
});
