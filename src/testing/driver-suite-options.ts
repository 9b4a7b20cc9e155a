/** What the driver suite has to be told of a driver and of the place it is tested in. */
import type { Driver, LayerId, LayerUsage } from "../drivers/driver.ts";

/** What the backing file system cannot hold, whatever the driver does; the tests leave it out. */
export type Lack = "xattrs" | "acls" | "devices" | "sparse files" | "huge files";

export interface DriverSuiteOptions {
  /** Makes an empty directory for a driver's home on the file system under test; the suite removes it. */
  readonly makeHome: () => string;
  /** Ends what the driver keeps besides files (pools, datasets, subvolumes) before the home is removed. */
  readonly removeHome?: (home: string, driver: Driver) => Promise<void>;
  readonly driverOptions?: Readonly<Record<string, string>>;
  /** Why the suite cannot run here. */
  readonly skip?: string | undefined;
  /** Length of the deep chain; 128 when not given. */
  readonly depth?: number;
  /** How many layers are made, mounted and removed in search of something left behind; 1,000 when not given. */
  readonly cycles?: number;
  /** The caller may give files to other users and make devices: root outside a user namespace. */
  readonly privileged: boolean;
  readonly lacks?: readonly Lack[];
  /** What a layer's usage must be: that of a directory, as du says; or as the caller says, once all is flushed. */
  readonly usage:
    | ((home: string, id: LayerId) => string)
    | {
        readonly expected: (home: string, id: LayerId) => LayerUsage;
        /** By how much sizes may differ where looking itself writes (journals of file systems that are mounted for it). */
        readonly slackBytes?: number;
      };
  /** A directory of a lower layer can be renamed; false registers no test of it. */
  readonly renamesLowerDirectories: boolean;
  /** Changing the owner of a lower file copies no data; false registers no test of it. */
  readonly metadataCopies: boolean;
  /** A size limit for a layer, in bytes, where the driver can set one here; undefined registers no test of it. */
  readonly quotaBytes?: number;
  /** A layer for which nobody asked for a limit has one all the same, below twice `quotaBytes`. */
  readonly alwaysLimited?: boolean;
  /** What the driver has on the host besides its home, by name: compared before and after each test. */
  readonly hostState?: () => readonly string[];
}
