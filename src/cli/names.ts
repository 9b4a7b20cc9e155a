/** Names and IDs as tables print them. */

/** The first 12 hexadecimal digits of an ID. */
export function shortId(id: string): string {
  return id.slice(id.indexOf(":") + 1).slice(0, 12);
}

/** `host:5000/team/app:1.0` as name and tag. */
export function splitTag(reference: string): readonly [name: string, tag: string] {
  const colon = reference.lastIndexOf(":");
  return [reference.slice(0, colon), reference.slice(colon + 1)];
}
