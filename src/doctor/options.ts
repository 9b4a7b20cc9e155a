/** What a diagnosis is asked. */
export interface DoctorOptions {
  /** Variables of the caller: DOCKER_HOST, HOME, XDG_*, CONTAINERS_STORAGE_CONF. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The caller's user ID. */
  readonly uid: number;
  /** Further data roots, of whatever engine. Absolute paths. */
  readonly roots?: readonly string[];
  /** Looks at `roots` and DOCKER_HOST alone, not at where engines usually are. */
  readonly onlyRoots?: boolean;
  /** Lamella's own root. */
  readonly lamellaRoot?: string;
  readonly signal?: AbortSignal;
}
