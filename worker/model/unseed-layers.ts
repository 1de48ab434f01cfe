/**
 * Takes the seeds off layers that draw in the forward pass. TensorFlow.js starts a new generator from a given
 * seed at every call, so a seeded dropout would drop the same units for ever; without one it draws from
 * Math.random, which is seeded for each slice anyway.
 */
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { leavesOf, unwrap } from './layer-tree.ts';
import { nameModel } from './names.ts';

/** Returns a note for each seed that it took off. */
export function unseedLayers(model: LayersModel): string[] {
  const names = nameModel(model).layers;
  const notes: string[] = [];
  for (const leaf of leavesOf(model)) {
    for (const layer of unwrap(leaf) as unknown as Seeded[]) {
      const holder = layer.randomGenerator ?? layer;
      if (holder.seed === undefined || holder.seed === null) continue;
      notes.push(
        `layer ${names.get(leaf) ?? leaf.name}: seed ${holder.seed} is ignored, as it would repeat one draw for ever; ` +
          "random numbers come from the run's seed, the step and the slice",
      );
      holder.seed = undefined;
    }
  }
  return notes;
}

interface Seeded {
  seed?: number | null | undefined;
  /** RandomWidth and its like keep their seed here. */
  readonly randomGenerator?: { seed?: number | null | undefined };
}
