import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Plan } from "./plan.ts";
import { CureState } from "./state.ts";

test("a line that a power cut left unfinished neither counts nor spoils the next", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "lamella-cure-state-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const id = "orphan-layers";
  const state = CureState.create(folder, { id, steps: [{ kind: "command" }] } as unknown as Plan);
  state.append({ event: "intended", step: 0 });
  appendFileSync(join(folder, id, "journal"), '{"event":"do');
  const later = CureState.open(folder, id);
  assert.deepEqual(later?.events, [{ event: "intended", step: 0 }]);
  later?.append({ event: "undoing", step: 0 });
  later?.append({ event: "undone", step: 0 });
  const last = CureState.open(folder, id);
  assert.deepEqual(
    last?.events.map(({ event }) => event),
    ["intended", "undoing", "undone"],
  );
  assert.deepEqual(last?.toUndo, []);
});
