import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { isLamellaError } from "../errors/lamella-error.ts";
import { PlayedNames } from "./btrfs-names.ts";
import type { SendCommand } from "./btrfs-stream.ts";

type Step = readonly [SendCommand["kind"], string, string?];

/** `before → after` for each name named, with `?` for names that old objects may have besides. */
function play(...steps: Step[]): string[] {
  const names = new PlayedNames();
  for (const [kind, path, second = ""] of steps) {
    if (kind === "rename") names.play({ kind, path, to: second });
    else if (kind === "link") names.play({ kind, path, target: second });
    else names.play({ kind, path });
  }
  return [...names.named()]
    .map(({ before, after, old }) => `${before ?? "-"} → ${after ?? "-"}${old ? "?" : ""}`)
    .sort();
}

describe("names under way", () => {
  it("end where the commands have put them", () => {
    assert.deepEqual(
      play(["make", "o300-9-0"], ["rename", "o300-9-0", "dir/new"], ["change", "dir/new"], ["change", "dir"]),
      ["- → dir/new", "dir → dir?"],
    );
    assert.deepEqual(play(["remove", "dir/gone"], ["change", ""]), ["dir/gone → -?"]);
    assert.deepEqual(play(["make", "new"], ["remove", "new"]), ["- → -"]);
  });

  it("go with the directory they are in", () => {
    assert.deepEqual(play(["rename", "a/b", "c"], ["change", "c/d/e"], ["remove", "c/f"]), [
      "a/b → c?",
      "a/b/d/e → c/d/e?",
      "a/b/f → -?",
    ]);
    assert.deepEqual(play(["rename", "a", "o257-5-0"], ["rename", "b", "a"], ["rename", "o257-5-0", "b"]), [
      "a → b?",
      "b → a?",
    ]);
    assert.deepEqual(
      play(
        ["rename", "dir", "o258-5-0"],
        ["make", "dir"],
        ["rename", "o258-5-0/kept", "dir/kept"],
        ["remove", "o258-5-0"],
      ),
      ["- → dir", "dir → -?", "dir/kept → dir/kept?"],
    );
  });

  it("of one object may be several", () => {
    assert.deepEqual(play(["link", "other", "dir/one"], ["remove", "dir/one"]), ["- → other?", "dir/one → -?"]);
  });

  it("that are not there are refused", () => {
    const refused: Step[][] = [
      [
        ["make", "new"],
        ["change", "new/below"],
      ],
      [
        ["remove", "a"],
        ["change", "a"],
      ],
      [
        ["rename", "a", "b"],
        ["change", "a/x"],
      ],
      [["rename", "a", "a/b"]],
      [["remove", ""]],
      [["rename", "", "x"]],
      [["make", ""]],
      [["make", "dir/"]],
      [["change", "a//b"]],
      [["change", "../a"]],
      [["make", "a/.."]],
    ];
    for (const steps of refused)
      assert.throws(
        () => play(...steps),
        (error) => isLamellaError(error, "data_loss"),
        JSON.stringify(steps),
      );
  });
});
