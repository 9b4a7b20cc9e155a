/**
 * The driver overlay2: every layer a directory of its own, stacked by the kernel's overlayfs. See ./linked-layers.ts for how
 * layers come and go, ./layout.ts for what lies on disk and ./options.ts for how mounts choose their options.
 */
import { kernelAtLeast, MAX_LOWERS } from "../../fs/overlay-mount.ts";
import type { ByteString } from "../../lib/bytes.ts";
import type { LayerMarks } from "../../overlayfs/layer-marks.ts";
import type { DriverCapabilities, LayerId, LayerView } from "../driver.ts";
import { overlayOptionStrings } from "../mount-view.ts";
import { readSmallFile } from "../small-file.ts";
import type { ViewOptions } from "../stack-driver.ts";
import { LinkedLayersDriver } from "./linked-layers.ts";
import { moduleParameters } from "./module-parameters.ts";
import {
  formatNeeds,
  type LayerNeeds,
  mountOptions,
  type Overlay2Options,
  type OverlayAbilities,
  parseNeeds,
} from "./options.ts";
import type { Overlay2Quota } from "./quota.ts";

export interface Overlay2Host {
  readonly abilities: OverlayAbilities;
  readonly backingFileSystem: string;
  readonly supportsDType: boolean;
}

/** What a driver is made of. */
export interface Overlay2Parts {
  readonly home: ByteString;
  readonly host: Overlay2Host;
  readonly options: Overlay2Options;
  readonly quota: Overlay2Quota;
}

export class Overlay2Driver extends LinkedLayersDriver {
  readonly name = "overlay2";
  readonly capabilities: DriverCapabilities;
  readonly writableSizeBytes: number | undefined;
  protected readonly marks: LayerMarks;
  readonly #host: Overlay2Host;
  readonly #options: Overlay2Options;
  readonly #quota: Overlay2Quota;

  /** The home exists with its folders; see ./factory.ts. */
  constructor({ home, host, options, quota }: Overlay2Parts) {
    super(home);
    this.capabilities = { nativeDiff: true, stacks: true, maxDepth: MAX_LOWERS, quota: quota.reason === undefined };
    this.writableSizeBytes = options.sizeBytes;
    this.#quota = quota;
    this.marks = { prefix: host.abilities.userxattr ? "user.overlay." : "trusted.overlay." };
    this.#host = host;
    this.#options = options;
  }

  status(): readonly (readonly [string, string])[] {
    const { abilities, backingFileSystem, supportsDType } = this.#host;
    return [
      ["Backing Filesystem", backingFileSystem],
      ["Supports d_type", String(supportsDType)],
      ["Using metacopy", String(this.#options.metacopy)],
      ["Native Overlay Diff", "true"],
      ["userxattr", String(abilities.userxattr)],
    ];
  }

  details(): readonly (readonly [string, string])[] {
    const options = overlayOptionStrings(mountOptions(this.#options, this.#host.abilities)).join(",");
    return [["Overlay Options", options], ...moduleParameters().map(([k, v]) => [`Module ${k}`, v] as const)];
  }

  protected override async layersOf(id: LayerId, options: ViewOptions): Promise<LayerView> {
    const { layout } = this;
    const diff = layout.diff(id);
    const own = `${this.home}/l/${layout.link(id)}`;
    const lowers = layout.lowerNames(id).map((name) => `${this.home}/${name}`);
    const readOnly = (options.readOnly ?? false) || layout.isCommitted(id);
    if (lowers.length === 0) return { kind: "directory", path: diff, readOnly };
    const mount = mountOptions(this.#needs(id), this.#host.abilities);
    if (readOnly)
      return { kind: "overlay", lowers: [own, ...lowers], upper: undefined, work: undefined, options: mount };
    const work = `${layout.layer(id)}/work`;
    const volatile = options.volatile === true && kernelAtLeast(5, 10);
    return { kind: "overlay", lowers, upper: diff, work, options: volatile ? { ...mount, volatile } : mount };
  }

  protected override limit(folder: ByteString, sizeBytes: number): void {
    this.#quota.limit(folder, sizeBytes);
  }

  protected override unlimit(folder: ByteString): void {
    this.#quota.release(folder);
  }

  protected override optionsOfNew(parent: LayerId | undefined): ByteString {
    return formatNeeds(parent === undefined ? this.#options : union(this.#options, this.#needs(parent)));
  }

  protected override optionsAbove(id: LayerId, parent: LayerId): ByteString {
    return formatNeeds(union(this.#needs(id), this.#needs(parent)));
  }

  #needs(id: LayerId): LayerNeeds {
    return parseNeeds(readSmallFile(`${this.layout.layer(id)}/options`), this.#host.abilities);
  }
}

function union(a: LayerNeeds, b: LayerNeeds): LayerNeeds {
  return { redirectDir: a.redirectDir || b.redirectDir, metacopy: a.metacopy || b.metacopy };
}
