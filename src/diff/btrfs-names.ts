/**
 * The names of a tree while a send stream is played on it: which name of the parent's tree each became, and which are new.
 * The tree itself is not there. What no command names is as the parent has it, and takes no memory; a directory that is
 * renamed takes all its names along without being told one of them.
 *
 * In between, names are in places where they are neither before nor after: btrfs gives new objects, and those that stand in
 * the way, names such as `o259-12-0` in the root.
 */
import type { ByteString } from "../lib/bytes.ts";
import { broken, type SendCommand } from "./btrfs-stream.ts";

/** A name under way. */
interface Name {
  /** The directory it is in, undefined for the root and for what was removed. */
  parent: Name | undefined;
  name: ByteString;
  /** Where the parent's tree has it; undefined for one that was made. */
  readonly origin: ByteString | undefined;
  /** It was made as a further name of an object. */
  readonly linked: boolean;
  /** Names in it that commands have named; undefined for one that is gone. */
  readonly below: Map<ByteString, Name | undefined>;
}

/** One name that commands named. */
export interface NamedPath {
  /** Its path in the parent's tree, if it is there. */
  readonly before: ByteString | undefined;
  /** Its path in the end, if it is there still. */
  readonly after: ByteString | undefined;
  /** The object may have other names, which no command named: it is not a new one. */
  readonly old: boolean;
}

function newName(parent: Name | undefined, name: ByteString, origin: ByteString | undefined, linked = false): Name {
  return { parent, name, origin, linked, below: new Map() };
}

function join(directory: ByteString, name: ByteString): ByteString {
  return directory === "" ? name : `${directory}/${name}`;
}

export class PlayedNames {
  readonly #root = newName(undefined, "", "");
  readonly #named = new Set<Name>();

  /** Plays one command. Errors: data_loss (SEND_STREAM) when it names what is not there. */
  play(command: SendCommand): void {
    switch (command.kind) {
      case "change":
        this.#named.add(this.#at(command.path));
        return;
      case "make":
        this.#put(command.path, (parent, name) => newName(parent, name, undefined));
        return;
      case "link":
        this.#named.add(this.#at(command.target));
        this.#put(command.path, (parent, name) => newName(parent, name, undefined, true));
        return;
      case "remove":
        this.#take(command.path);
        return;
      case "rename": {
        const moved = this.#take(command.path);
        this.#put(command.to, (parent, name) => {
          moved.parent = parent;
          moved.name = name;
          return moved;
        });
        return;
      }
      default:
        command satisfies never;
    }
  }

  /** All names that commands have named but the root, in no particular order. */
  *named(): Generator<NamedPath> {
    for (const name of this.#named) {
      if (name === this.#root) continue;
      yield { before: name.origin, after: this.#pathOf(name), old: name.origin !== undefined || name.linked };
    }
  }

  #pathOf(name: Name): ByteString | undefined {
    const parts: ByteString[] = [];
    for (let at = name; at !== this.#root; at = at.parent) {
      if (at.parent === undefined) return undefined;
      parts.push(at.name);
    }
    return parts.reverse().join("/");
  }

  #at(path: ByteString): Name {
    let at = this.#root;
    if (path === "") return at;
    for (const name of path.split("/")) {
      if (name === "" || name === "." || name === "..") throw broken(`a command names ${JSON.stringify(path)}`);
      const known = at.below.get(name);
      if (known !== undefined) {
        at = known;
        continue;
      }
      if (at.origin === undefined || at.below.has(name)) throw broken("a command names what is not there");
      const next = newName(at, name, join(at.origin, name));
      at.below.set(name, next);
      at = next;
    }
    return at;
  }

  #take(path: ByteString): Name {
    const taken = this.#at(path);
    if (taken.parent === undefined) throw broken("a command moves or removes the root");
    taken.parent.below.set(taken.name, undefined);
    taken.parent = undefined;
    this.#named.add(taken);
    return taken;
  }

  #put(path: ByteString, make: (parent: Name, name: ByteString) => Name): void {
    const cut = path.lastIndexOf("/");
    const parent = this.#at(path.slice(0, Math.max(0, cut)));
    const name = path.slice(cut + 1);
    if (name === "" || name === "." || name === "..") throw broken(`a command makes ${JSON.stringify(path)}`);
    // A rename may replace what is there.
    const there = parent.below.get(name);
    if (there !== undefined) {
      there.parent = undefined;
      this.#named.add(there);
    }
    const put = make(parent, name);
    parent.below.set(name, put);
    this.#named.add(put);
  }
}
