/** Options in modprobe.d that do nothing, because overlayfs is built into the kernel. */
import type { Facts } from "../facts.ts";
import type { Finding } from "./finding.ts";

/** Only options that ask for something else than what holds: the others do no harm. */
export function modprobeFindings({ overlay }: Facts): Finding[] {
  if (overlay.presence !== "builtin") return [];
  const unheeded = overlay.modprobe.filter(({ name, value }) => {
    const now = overlay.parameters[name];
    return now !== undefined && now !== value;
  });
  if (unheeded.length === 0) return [];
  return [
    {
      id: "modprobe-options-unheeded",
      severity: "warning",
      subject: "this host",
      sentence:
        "Somebody set options of overlayfs in modprobe.d, but this kernel has overlayfs built in and never reads them there.",
      evidence: unheeded.flatMap(({ name, value, source }) => [
        { source, said: `${name}=${value}` },
        { source: `/sys/module/overlay/parameters/${name}`, said: overlay.parameters[name] ?? "" },
      ]),
      cost: "The host does not do what its configuration says",
      cures: [
        `put it on the kernel command line: ${unheeded.map(({ name, value }) => `overlay.${name}=${value}`).join(" ")}`,
      ],
    },
  ];
}
