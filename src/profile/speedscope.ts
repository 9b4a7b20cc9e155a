/** The file format of speedscope (https://www.speedscope.app/file-format-schema.json), a viewer for profiles. */
import type { Profile } from "./profile.ts";

/** The JSON of a file with one `sampled` profile, its samples in the order they were taken. */
export function writeSpeedscope(profile: Profile): string {
  const indices = new Map<string, number>();
  const indexOf = (name: string): number => {
    const index = indices.get(name) ?? indices.size;
    indices.set(name, index);
    return index;
  };
  const samples = profile.samples.map(({ frames }) => frames.map(indexOf));
  const weights = profile.samples.map(({ weight }) => weight);
  const file = {
    $schema: "https://www.speedscope.app/file-format-schema.json",
    name: profile.name,
    exporter: "lamella",
    shared: { frames: [...indices.keys()].map((name) => ({ name })) },
    profiles: [
      {
        type: "sampled",
        name: profile.name,
        unit: profile.unit,
        startValue: 0,
        endValue: weights.reduce((sum, weight) => sum + weight, 0),
        samples,
        weights,
      },
    ],
  };
  return `${JSON.stringify(file)}\n`;
}
