/**
 * A machine: QEMU with the processor emulated in software, Debian's kernel, three disks (root, project, modules) whose
 * changes are thrown away, a console, and a serial port of its own for the report. It ends when the guest powers off, when
 * its time is over, or with this process.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Boot } from "./boots.ts";
import { type CpioMember, cpioArchive } from "./cpio.ts";
import type { RootImage } from "./image.ts";
import type { Kernel } from "./kernel.ts";

/** All that a boot needs. */
export interface Parts {
  readonly image: RootImage;
  readonly kernel: Kernel;
  readonly projectDisk: string;
  /** A directory for files of this run, to be made. */
  readonly scratch: string;
}

export interface Job {
  readonly boot: Boot;
  readonly environment: Readonly<Record<string, string>>;
  readonly command: readonly string[];
}

/** How a machine ended: with the status of its job, or with the reason why there is none and the end of its console. */
export type Ending = { readonly status: number } | { readonly reason: string; readonly console: string };

/**
 * A processor with what Node.js wants and little more. Wider vectors are emulated element by element, and string moves
 * (erms) byte by byte: with "max", writing files takes half as long again.
 */
const processor = "Nehalem";

const kernelArguments = [
  "console=ttyS0",
  "panic=-1",
  "oops=panic",
  "mitigations=off",
  "audit=0",
  // No big module for security, which would be SELinux without a policy where AppArmor is off.
  "lsm=landlock,lockdown,yama",
  "nokaslr",
  // Programs at the same addresses each time are not translated again each time: starting one takes a third.
  "norandmaps",
  "random.trust_cpu=on",
  // The emulated timer may tick late on a busy host, which is not a broken one.
  "no_timer_check",
  "nowatchdog",
  "quiet",
];

function qemu(parts: Parts, initramfs: string, { reboots = false }: Boot): string[] {
  const disks = [parts.image.disk, parts.projectDisk, parts.kernel.modulesDisk].flatMap((file, i) => [
    ...["-drive", `file=${file},if=none,id=disk${i},format=raw,snapshot=on,cache=unsafe`],
    ...["-device", `virtio-blk-pci,drive=disk${i}`],
  ]);
  return [
    ...["-nodefaults", "-no-user-config", "-display", "none"],
    // A kernel that panics reboots: that is the end of it, where nobody asks for one.
    ...(reboots ? [] : ["-no-reboot"]),
    ...["-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", processor, "-smp", "2", "-m", "2048"],
    ...["-kernel", parts.kernel.image, "-initrd", initramfs, "-append", kernelArguments.join(" ")],
    ...["-device", "virtio-rng-pci"],
    ...disks,
  ];
}

/** Runs a job in a machine; each line of its report is handed out when it comes. */
export async function runMachine(
  parts: Parts,
  job: Job,
  limitSec: number,
  onLine: (line: string) => void,
): Promise<Ending> {
  mkdirSync(parts.scratch);
  const console_ = join(parts.scratch, "console");
  const initramfs = join(parts.scratch, "initramfs");
  writeFileSync(console_, "");
  writeFileSync(initramfs, initramfsOf(parts, jobScript(job, { shell: false })));
  const ports = [
    ...["-serial", `file:${console_}`, "-device", "virtio-serial-pci"],
    ...["-chardev", "stdio,id=report,signal=off", "-device", "virtserialport,chardev=report,nr=1"],
  ];
  const child = start([...qemu(parts, initramfs, job.boot), ...ports], ["pipe", "pipe", "pipe"]);
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, limitSec * 1000);
  let status: number | undefined;
  let errors = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  const lines = createInterface({ input: child.stdout! });
  lines.on("line", (line) => {
    const exit = /^exit (\d+)$/.exec(line)?.[1];
    if (exit === undefined) return onLine(line);
    status = Number(exit);
    // Where a reset is no end, powering off is none either: it may come as one.
    if (job.boot.reboots) child.kill("SIGKILL");
  });
  const [code] = await Promise.all([ended(child), new Promise((resolve) => lines.once("close", resolve))]);
  clearTimeout(timer);
  if (status !== undefined) return { status };
  const reason = late
    ? `gave up after ${limitSec} s`
    : `the machine stopped before its tests did (QEMU ended with ${code}) ${errors.trim()}`;
  return { reason, console: tail(readFileSync(console_, "latin1")) };
}

/** Boots into a shell on this process's terminal. */
export async function runShell(parts: Parts, job: Job): Promise<void> {
  mkdirSync(parts.scratch);
  const initramfs = join(parts.scratch, "initramfs");
  writeFileSync(initramfs, initramfsOf(parts, jobScript(job, { shell: true })));
  const ports = ["-chardev", "stdio,id=console,signal=off,mux=off", "-serial", "chardev:console"];
  await ended(start([...qemu(parts, initramfs, job.boot), ...ports], "inherit"));
}

/** Starts QEMU; it is killed when this process ends, however that comes. */
function start(args: readonly string[], stdio: "inherit" | ["pipe", "pipe", "pipe"]): ChildProcess {
  return spawn("setpriv", ["--pdeathsig", "KILL", "qemu-system-x86_64", ...args], { stdio });
}

function ended(child: ChildProcess): Promise<number | string> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve(code ?? signal ?? 0));
  });
}

function tail(text: string): string {
  return text.replace(/\r/g, "").trimEnd().split("\n").slice(-60).join("\n");
}

function initramfsOf({ image, kernel }: Parts, job: string): Buffer {
  const here = (name: string): Buffer => readFileSync(join(import.meta.dirname, name));
  const directory = (name: string): CpioMember => ({ name, mode: 0o040755, data: Buffer.alloc(0) });
  const program = (name: string, data: Buffer): CpioMember => ({ name, mode: 0o100755, data });
  return cpioArchive([
    ...["bin", "dev", "job", "modules", "root"].map(directory),
    program("init", here("initramfs.sh")),
    program("bin/busybox", readFileSync(image.busybox)),
    program("job/guest.sh", here("guest.sh")),
    program("job/job.sh", Buffer.from(job)),
    ...kernel.bootModules.map((path, i) => program(`modules/${String(i).padStart(2, "0")}.ko`, readFileSync(path))),
  ]);
}

/** What guest.sh reads: variables of bash. */
function jobScript({ boot, environment, command }: Job, { shell }: { readonly shell: boolean }): string {
  const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  const array = (texts: readonly string[]): string => `(${texts.map(quote).join(" ")})`;
  return [
    ...Object.entries({ ...boot.environment, ...environment }).map(([name, value]) => `export ${name}=${quote(value)}`),
    `module_options=${array(boot.moduleOptions)}`,
    `command=${array(command)}`,
    `init=${boot.init ?? ""}`,
    `shell=${shell ? `${process.stdout.rows ?? 24} ${process.stdout.columns ?? 80}` : ""}`,
    "",
  ].join("\n");
}
