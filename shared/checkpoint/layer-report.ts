import { join } from 'node:path';
import type { GenerationRecord } from '../coordination/coordinator.ts';
import { ParameterSpace, type Parameter } from '../layout/parameter-space.ts';
import { unitsOf } from '../layout/units.ts';
import { concatBits, getBit } from '../sparsity/bitmap.ts';
import { matchedParameters } from '../sparsity/rules.ts';
import type { LayerResult } from '../telemetry/run-status.ts';
import { denseChunks, locatedAt } from './digests.ts';
import type { Manifest } from './manifest.ts';
import { ShardReader } from './shard-file.ts';
import type { CheckpointStore } from './store.ts';

/** A checkpoint and where it lies. */
export interface LocatedManifest {
  readonly folder: string;
  readonly manifest: Manifest;
}

/**
 * What a checkpoint's mask says of every parameter, in model order: counted from its bits, not from schedules. Sizes are
 * those that the run began with.
 * @param before an earlier checkpoint of the run, to compare masks with; null: churn is not known
 */
export async function reportLayers(
  { folder, manifest }: LocatedManifest,
  before: LocatedManifest | null,
): Promise<LayerResult[]> {
  const space = ParameterSpace.of(manifest.model.parameters);
  const earlier = before === null ? null : await EarlierMask.of(before);
  const begun = ParameterSpace.begunWith(manifest.model);
  const rules = manifest.config.sparsity;
  const matched = new Set(matchedParameters(rules, space).map(({ name }) => name));
  const tallies = space.parameters.map(
    (parameter) => new Tally(parameter, rules.length === 0 ? parameter.prunable : matched.has(parameter.name), earlier),
  );
  for await (const { start, mask, weights } of denseChunks(manifest, locatedAt(folder))) {
    for (const part of space.overlapping(start, start + weights.length)) {
      tallies[space.parameters.indexOf(part.parameter)]?.count(part.start, part.end, start, mask, weights);
    }
  }
  return tallies.map((tally, i) => tally.result(begun.parameters[i] as Parameter));
}

/** The same with the newest usable checkpoint before it, where the store has one. */
export async function reportLayersOf(
  checkpoint: LocatedManifest,
  store: CheckpointStore,
  lineage: readonly GenerationRecord[],
): Promise<LayerResult[]> {
  const older = { atOrBelow: checkpoint.manifest.clock - 1, lineage };
  // Churn is an extra: a damaged checkpoint is told of by those who need it.
  const before = await store.newestUsable(older, () => undefined).catch(() => null);
  return reportLayers(checkpoint, before);
}

/** Dead of all elements of these layers; 0 where there are none. */
export function deadFraction(layers: readonly Pick<LayerResult, 'size' | 'survivors'>[]): number {
  const size = layers.reduce((sum, layer) => sum + layer.size, 0);
  const survivors = layers.reduce((sum, layer) => sum + layer.survivors, 0);
  return size === 0 ? 0 : 1 - survivors / size;
}

class Tally {
  readonly #parameter: Parameter;
  readonly #prunable: boolean;
  readonly #inner: number;
  /** By unit: 1 where an element survives. */
  readonly #alive: Uint8Array;
  readonly #earlier: { readonly mask: Uint8Array; readonly offset: number; readonly step: number } | null;
  #survivors = 0;
  #zeroSurvivors = 0;
  #died = 0;
  #regrown = 0;

  constructor(parameter: Parameter, prunable: boolean, earlier: EarlierMask | null) {
    const { count, inner } = unitsOf(parameter);
    this.#parameter = parameter;
    this.#prunable = prunable;
    this.#inner = inner;
    this.#alive = new Uint8Array(count);
    this.#earlier = earlier?.of(parameter) ?? null;
  }

  /** Elements [start, end) of the space; bitmap and weights begin at `from`. */
  count(start: number, end: number, from: number, mask: Uint8Array, weights: Float32Array): void {
    const { offset } = this.#parameter;
    const earlier = this.#earlier;
    const units = this.#alive.length;
    for (let i = start; i < end; i++) {
      const survives = getBit(mask, i - from);
      if (survives) {
        this.#survivors++;
        if (weights[i - from] === 0) this.#zeroSurvivors++;
        this.#alive[Math.floor((i - offset) / this.#inner) % units] = 1;
      }
      if (earlier !== null && getBit(earlier.mask, earlier.offset + i - offset) !== survives) {
        if (survives) this.#regrown++;
        else this.#died++;
      }
    }
  }

  /** @param begun the parameter before units left the model */
  result(begun: Parameter): LayerResult {
    const { name, size } = begun;
    const left = size - this.#parameter.size;
    const units = size === 0 ? 0 : unitsOf(begun).count;
    const alive = this.#parameter.size === 0 ? 0 : this.#alive.filter((each) => each === 1).length;
    return {
      name,
      size,
      ...(left === 0 ? {} : { left }),
      survivors: this.#survivors,
      zeroSurvivors: this.#zeroSurvivors,
      prunable: this.#prunable,
      units,
      deadUnits: units - alive,
      bytes: Float32Array.BYTES_PER_ELEMENT * this.#survivors,
      churn: this.#earlier === null ? null : { since: this.#earlier.step, died: this.#died, regrown: this.#regrown },
    };
  }
}

/** The mask of an earlier checkpoint, by parameter: where the model was shrunk since, only some compare. */
class EarlierMask {
  readonly #mask: Uint8Array;
  readonly #space: ParameterSpace;
  readonly #step: number;

  private constructor(mask: Uint8Array, space: ParameterSpace, step: number) {
    this.#mask = mask;
    this.#space = space;
    this.#step = step;
  }

  static async of({ folder, manifest }: LocatedManifest): Promise<EarlierMask> {
    const parts: { bits: Uint8Array; length: number }[] = [];
    for (const { file, start, end } of manifest.shards) {
      const reader = await ShardReader.open(join(folder, file));
      parts.push({ bits: reader.mask, length: end - start });
      await reader.close();
    }
    return new EarlierMask(concatBits(parts), ParameterSpace.of(manifest.model.parameters), manifest.clock);
  }

  of({ name, shape }: Parameter): { mask: Uint8Array; offset: number; step: number } | null {
    const same = this.#space.byName(name);
    if (same?.shape.join() !== shape.join()) return null;
    return { mask: this.#mask, offset: same.offset, step: this.#step };
  }
}
