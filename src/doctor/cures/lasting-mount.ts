/** A mount that is there after a reboot: a line of /etc/fstab, or a unit of systemd. Docker is to wait for it. */
import { fileStep, type PlanRequest } from "./request.ts";
import type { MountStep, Step } from "./steps/step.ts";

type Mount = Omit<MountStep, "kind">;

export interface LastingMount {
  readonly steps: readonly Step[];
  readonly byHand: readonly string[];
}

const unitFolder = "/etc/systemd/system";

/** `isVolume`: the device comes from ZFS, which has to find its pools first. */
export function lastingMount(request: PlanRequest, mount: Mount, isVolume: boolean): LastingMount {
  const { host, choices } = request;
  if (choices.mountUnit) return unit(request, mount, isVolume);
  const hasSystemd = host.view.exists("/run/systemd/system");
  const after = isVolume ? "zfs-volumes.target" : "zfs-mount.service";
  const options = [
    mount.options,
    ...(hasSystemd
      ? [`x-systemd.requires=${after}`, `x-systemd.after=${after}`, "x-systemd.before=docker.service"]
      : []),
  ];
  const line = [fstabPath(mount.source), fstabPath(mount.target), mount.type, options.join(","), "0", "0"].join(" ");
  const before = host.view.text("/etc/fstab") ?? "";
  const text = `${before}${before === "" || before.endsWith("\n") ? "" : "\n"}# Docker's data root, by \`lamella doctor\`\n${line}\n`;
  return {
    steps: [fileStep(host, "/etc/fstab", text), ...(hasSystemd ? [reload] : [])],
    byHand: hasSystemd
      ? []
      : ["see that ZFS is mounted before /etc/fstab's other lines when this host starts, and Docker started after"],
  };
}

const reload: Step = {
  kind: "command",
  argv: ["systemctl", "daemon-reload"],
  undo: ["systemctl", "daemon-reload"],
  holdsData: false,
};

function unit({ host }: PlanRequest, mount: Mount, isVolume: boolean): LastingMount {
  const name = `${escapeUnit(mount.target)}.mount`;
  const after = isVolume ? "zfs-volumes.target" : "zfs-mount.service";
  const text = `# Docker's data root, by \`lamella doctor\`
[Unit]
Requires=${after}
After=${after}
Before=docker.service

[Mount]
What=${mount.source}
Where=${mount.target}
Type=${mount.type}
Options=${mount.options}

[Install]
RequiredBy=docker.service
`;
  return {
    steps: [
      fileStep(host, `${unitFolder}/${name}`, text),
      reload,
      {
        kind: "command",
        argv: ["systemctl", "enable", name],
        undo: ["systemctl", "disable", name],
        holdsData: false,
      },
    ],
    byHand: [],
  };
}

/** As /etc/fstab writes a path: blanks and backslashes in octal (fstab(5)). */
function fstabPath(path: string): string {
  return path.replace(/[ \t\n\\]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

/** A path as systemd has it in the name of a unit (systemd.unit(5), "String escaping for inclusion in unit names"). */
export function escapeUnit(path: string): string {
  const bytes = Buffer.from(path.replace(/^\/+|\/+$/g, ""), "utf8");
  return [...bytes]
    .map((byte, i) => {
      const c = String.fromCharCode(byte);
      if (c === "/") return "-";
      return /[A-Za-z0-9:_.]/.test(c) && !(c === "." && i === 0) ? c : `\\x${byte.toString(16).padStart(2, "0")}`;
    })
    .join("");
}
