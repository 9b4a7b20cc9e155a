/** Wrong use of the command line: ends with status 2. */
import { LamellaError } from "../errors/lamella-error.ts";

export function usageError(message: string, hint?: string): LamellaError {
  return new LamellaError("invalid_argument", "USAGE", message, { hint });
}
