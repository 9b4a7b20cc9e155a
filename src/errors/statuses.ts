/** The tables from an error's kind to the statuses of the outside worlds: process exit, HTTP, gRPC. */
import { type ErrorKind, LamellaError } from "./lamella-error.ts";

interface Statuses {
  /** Process exit status of the command line: 1 failed, 2 usage. */
  readonly exit: number;
  /** HTTP status of the Docker Engine API. */
  readonly http: number;
  /** gRPC status code, as in google.rpc.Code. */
  readonly grpc: number;
}

export const statusesOfKind: Readonly<Record<ErrorKind, Statuses>> = {
  not_found: { exit: 1, http: 404, grpc: 5 },
  already_exists: { exit: 1, http: 409, grpc: 6 },
  invalid_argument: { exit: 1, http: 400, grpc: 3 },
  failed_precondition: { exit: 1, http: 409, grpc: 9 },
  permission_denied: { exit: 1, http: 403, grpc: 7 },
  resource_exhausted: { exit: 1, http: 507, grpc: 8 },
  unavailable: { exit: 1, http: 503, grpc: 14 },
  unimplemented: { exit: 1, http: 501, grpc: 12 },
  data_loss: { exit: 1, http: 500, grpc: 15 },
  aborted: { exit: 1, http: 409, grpc: 10 },
  canceled: { exit: 130, http: 499, grpc: 1 },
  internal: { exit: 1, http: 500, grpc: 13 },
};

/** The exit status for a thrown value. A LamellaError with code `USAGE` exits 2. */
export function exitStatusOf(error: unknown): number {
  if (!(error instanceof LamellaError)) return 1;
  return error.code === "USAGE" ? 2 : statusesOfKind[error.kind].exit;
}
