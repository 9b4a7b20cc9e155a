/** A made tree that stands for `/`. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { collectFacts } from "../../src/doctor/collect/collect.ts";
import type { Facts } from "../../src/doctor/facts.ts";
import type { DoctorOptions } from "../../src/doctor/options.ts";

export class MadeHost implements AsyncDisposable {
  readonly prefix = mkdtempSync(join(tmpdir(), "lamella-doctor-"));
  readonly #servers: Server[] = [];

  /** Writes files by their paths. */
  write(files: Readonly<Record<string, string | Uint8Array>>): void {
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(this.prefix, path)), { recursive: true });
      writeFileSync(join(this.prefix, path), content);
    }
  }

  directory(path: string, mode = 0o755): void {
    mkdirSync(join(this.prefix, path), { recursive: true, mode });
  }

  link(target: string, path: string): void {
    mkdirSync(dirname(join(this.prefix, path)), { recursive: true });
    symlinkSync(target, join(this.prefix, path));
  }

  /** Makes a directory look as if it were there since yesterday. */
  age(path: string): void {
    const yesterday = Date.now() / 1000 - 86_400;
    utimesSync(join(this.prefix, path), yesterday, yesterday);
  }

  /** A daemon's socket that gives one answer. */
  async answer(socket: string, info: unknown, status = 200): Promise<void> {
    mkdirSync(dirname(join(this.prefix, socket)), { recursive: true });
    const server = createServer((_, response) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(info));
    });
    this.#servers.push(server);
    await new Promise<void>((resolve) => server.listen(join(this.prefix, socket), resolve));
  }

  facts(options: Partial<DoctorOptions> = {}): Promise<Facts> {
    return collectFacts({ env: {}, uid: 0, ...options }, { prefix: this.prefix, kernel: "6.1.0-test" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await new Promise((resolve) => server.close(resolve));
    rmSync(this.prefix, { recursive: true, force: true });
  }
}
