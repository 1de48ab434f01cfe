import { createHash } from 'node:crypto';
import type { ShardSnapshot } from '../../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import { type Parameter, ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { getBit } from '../../../shared/sparsity/bitmap.ts';
import { unpack } from '../../../shared/sparsity/packing.ts';

/** What a checkpoint holds, parameter by parameter. */
export class Contents {
  readonly #snapshot: ShardSnapshot;
  readonly #space: ParameterSpace;
  readonly #values: Readonly<Record<string, Float32Array>>;

  private constructor(snapshot: ShardSnapshot, space: ParameterSpace) {
    this.#snapshot = snapshot;
    this.#space = space;
    const values = { weights: snapshot.weights, ...snapshot.slots };
    this.#values = Object.fromEntries(
      Object.entries(values).map(([name, packed]) => [name, unpack(packed, snapshot.stored, space.size)]),
    );
  }

  /** The newest checkpoint of a run at this clock. */
  static async of(runDirectory: string, clock: number): Promise<Contents> {
    const store = new CheckpointStore(runDirectory);
    const entry = (await store.list()).findLast((each) => each.complete && each.clock === clock);
    if (!entry) throw new Error(`${runDirectory} has no checkpoint of step ${clock}`);
    const manifest = await store.verify(entry.path);
    const space = ParameterSpace.of(manifest.model.parameters);
    return new Contents(await store.readRange(manifest, 0, space.size, { withState: true }), space);
  }

  /** One byte an element: 1 where it survives. */
  alive(parameter: string): Uint8Array {
    const { offset, size } = this.#parameter(parameter);
    return Uint8Array.from({ length: size }, (_, i) => (getBit(this.#snapshot.mask, offset + i) ? 1 : 0));
  }

  dead(parameter: string): number {
    return this.alive(parameter).reduce((sum, alive) => sum + 1 - alive, 0);
  }

  weights(parameter: string): Float32Array {
    const { offset, size } = this.#parameter(parameter);
    return (this.#values['weights'] as Float32Array).slice(offset, offset + size);
  }

  /** Of mask, weights and every slot of these parameters: equal where all bits are. */
  digest(parameters: readonly string[]): string {
    const hash = createHash('sha256');
    for (const name of parameters) {
      hash.update(this.alive(name));
      const { offset, size } = this.#parameter(name);
      for (const [slot, values] of Object.entries(this.#values).sort(([a], [b]) => (a < b ? -1 : 1)))
        hash.update(slot).update(new Uint8Array(values.slice(offset, offset + size).buffer));
    }
    return hash.digest('hex');
  }

  #parameter(name: string): Parameter {
    const found = this.#space.byName(name);
    if (!found) throw new Error(`no parameter ${name}`);
    return found;
  }
}
