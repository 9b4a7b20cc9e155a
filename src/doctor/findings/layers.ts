/** Findings about the layers in Docker's data root. */
import { humanSize } from "../../lib/human-size.ts";
import type { DockerFacts, Facts, LayerCount } from "../facts.ts";
import type { Finding } from "./finding.ts";
import { subjectOf } from "./subject.ts";

/** The most layers that Docker stacks (moby, layer/layer_store.go: maxLayerDepth). */
const maxLayers = 125;
const nearMaxLayers = 115;

export function layerFindings({ docker }: Facts): Finding[] {
  return docker.flatMap((one) => [
    ...brokenLinks(one),
    ...missing(one),
    ...emptyMetadata(one),
    ...emptyFiles(one),
    ...layerLimit(one),
    ...orphans(one),
  ]);
}

const loadAgain = "remove the images on it (`docker rmi`) and pull or build them again";

function brokenLinks(docker: DockerFacts): Finding[] {
  return whenAny(docker, docker.data?.brokenLinks, (count) => ({
    id: "layer-links-broken",
    severity: "error",
    sentence: `${layers(count)} of overlay2 ${count === 1 ? "has" : "have"} a short name that leads nowhere, most likely since a power cut.`,
    cost: "Containers on it do not start (`too many levels of symbolic links`), or start with files of another layer",
    cures: [
      loadAgain,
      "for a `link` file or a link in l/ that is lost: stop Docker, write the layer's 26 characters, as other layers' `lower` files have them, and make the link l/<characters> -> ../<layer>/diff again",
    ],
  }));
}

function missing(docker: DockerFacts): Finding[] {
  return whenAny(docker, docker.data?.missing, (count) => ({
    id: "layers-missing",
    severity: "error",
    sentence: `Docker's list of layers names ${layers(count)} whose directory is not there: somebody removed it, or it is on a disk that is not mounted.`,
    cost: "Images and containers on it cannot be used, and pulling them again does not help: Docker believes it has the layer",
    cures: ["if the directory is somewhere (a backup, a disk not mounted), put it back", loadAgain],
  }));
}

function emptyMetadata(docker: DockerFacts): Finding[] {
  return whenAny(docker, docker.data?.emptyMetadata, (count) => ({
    id: "layer-metadata-empty",
    severity: "error",
    sentence: `${count === 1 ? "A file" : `${count} files`} in which Docker describes layers ${count === 1 ? "is" : "are"} empty or missing, most likely since a power cut.`,
    cost: "Docker leaves such layers out without a word: images on them have vanished, their space has not",
    cures: [
      "stop Docker, move the directory of that layer in layerdb/sha256 away, start Docker and pull the image again",
    ],
  }));
}

function emptyFiles(docker: DockerFacts): Finding[] {
  return whenAny(docker, docker.data?.hollowFiles, (count) => ({
    id: "layer-files-empty",
    severity: "error",
    sentence: `${count === 1 ? "A program or library" : `${count} programs and libraries`} in image layers ${count === 1 ? "has" : "have"} lost all content, most likely in a power cut; Docker does not notice.`,
    cost: "Programs in containers do not start (`exec format error`, `file too short`), and pulling the image again does not help: Docker believes it has the layer",
    cures: [loadAgain],
  }));
}

function layerLimit(docker: DockerFacts): Finding[] {
  const { deepestChain = 0 } = docker.data ?? {};
  if (deepestChain < nearMaxLayers || docker.containerdStore) return [];
  const isAt = deepestChain >= maxLayers;
  return [
    {
      id: "layer-limit-near",
      severity: isAt ? "error" : "warning",
      subject: subjectOf(docker),
      sentence: `An image here has ${deepestChain} layers; Docker stacks ${maxLayers} at most, so ${isAt ? "nothing can be built on it" : "few steps can be added to it"}.`,
      evidence: [
        {
          source: `${docker.root}/image/${docker.data?.driver}/layerdb`,
          said: `the longest chain is ${deepestChain} layers`,
        },
      ],
      cost: "Builds and pulls fail with `max depth exceeded`",
      cures: [
        "join steps of its Dockerfile (`RUN a && b`), or start over from a flat image: `docker export` of a container and `docker import`",
      ],
    },
  ];
}

function orphans(docker: DockerFacts): Finding[] {
  const found = docker.data?.orphans;
  return whenAny(docker, found, (count) => ({
    id: "orphan-layers",
    severity: "warning",
    sentence: `${layers(count)} with ${found?.sizeIsAtLeast ? "at least " : ""}${humanSize(found?.sizeBytes ?? 0)} ${count === 1 ? "belongs" : "belong"} to no image, container or build cache: left over from something that was interrupted.`,
    cost: "Space that `docker system prune` never gives back, as Docker does not know of it",
    cures: [
      "stop Docker, move these directories to another place on the same disk, start Docker, and remove them when all images and containers still work",
    ],
  }));
}

function whenAny(
  docker: DockerFacts,
  found: LayerCount | undefined,
  make: (count: number) => Omit<Finding, "subject" | "evidence">,
): Finding[] {
  if (found === undefined || found.count === 0) return [];
  const more = found.count - found.examples.length;
  const evidence = found.examples.map((said) => ({ source: docker.root, said: said.replace(`${docker.root}/`, "") }));
  if (more > 0) evidence.push({ source: docker.root, said: `and ${more} more` });
  return [{ ...make(found.count), subject: subjectOf(docker), evidence }];
}

function layers(count: number): string {
  return `${count} ${count === 1 ? "layer" : "layers"}`;
}
