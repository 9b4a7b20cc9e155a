/** Thrown to end the process with a status and no message: whoever throws it has said all there is to say. */
export class ExitRequest extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`exit with status ${status}`);
    this.status = status;
  }
}
