/**
 * Writes the archive an initramfs is: cpio of the "newc" kind (kernel: Documentation/driver-api/early-userspace/
 * buffer-format.rst). A header of 110 bytes in hexadecimal text, the name with its zero, padding to 4, the data, padding to 4.
 */

export interface CpioMember {
  readonly name: string;
  /** Type and permissions as `st_mode` has them. */
  readonly mode: number;
  readonly data: Uint8Array;
}

const magic = "070701";
const alignment = 4;

/** The archive of these members, in this order: a directory comes before what is in it. */
export function cpioArchive(members: readonly CpioMember[]): Buffer {
  const end: CpioMember = { name: "TRAILER!!!", mode: 0, data: new Uint8Array() };
  return Buffer.concat([...members, end].flatMap((member, i) => [header(member, i + 1), padded(member.data)]));
}

function header({ name, mode, data }: CpioMember, inode: number): Buffer {
  const nameBytes = Buffer.from(`${name}\0`);
  // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, nameBytes.length, 0];
  const text = magic + fields.map((field) => field.toString(16).padStart(8, "0")).join("");
  return padded(Buffer.concat([Buffer.from(text), nameBytes]));
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes], Math.ceil(bytes.length / alignment) * alignment);
}
