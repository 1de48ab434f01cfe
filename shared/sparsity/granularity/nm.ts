import { keysInPlace } from '../criterion/key.ts';
import { asMatrix, type Granularity, numElements, tell } from './granularity.ts';

/**
 * N:M sparsity (Mishra et al. 2021): of every m neighbours along the input axis (the last but one) only n stay. The
 * units are the groups of m; they lie within one tap of a convolution.
 */
export function nm([n, m]: readonly [n: number, m: number]): Granularity {
  return {
    name: 'nm',
    numUnits: (shape) => numElements(shape) / m,
    unitOf(shape) {
      const { columns } = asMatrix(shape);
      const units = new Uint32Array(numElements(shape));
      for (let i = 0; i < units.length; i++) {
        const row = Math.floor(i / columns);
        // The inputs of each tap are a multiple of m rows, so no group of m rows spans two taps.
        units[i] = Math.floor(row / m) * columns + (i - row * columns);
      }
      return units;
    },
    refuse(parameter) {
      const { shape, layerKind } = parameter;
      if (shape.length < 2) return `${tell(parameter)} has no input axis for ${n}:${m}; leave it out of match`;
      if (layerKind === 'DepthwiseConv2D' || parameter.name.endsWith('/depthwise_kernel')) {
        return `${tell(parameter)} sums over no inputs, so that ${n}:${m} has no meaning for it; leave it out of match`;
      }
      if (layerKind.endsWith('Transpose')) {
        return `${tell(parameter)} of a ${layerKind} has its inputs last, where ${n}:${m} is not available; leave it out of match`;
      }
      const inputs = shape.at(-2) ?? 0;
      return inputs % m === 0
        ? null
        : `the ${inputs} inputs of ${tell(parameter)} are no multiple of ${m} and cannot be cut into groups for ${n}:${m}; choose another m, or leave it out of match`;
    },
  };
}

/** What bringing each group to n:m takes. */
export interface NmGroups {
  /** Sum of the scores that would be lost, float32; 0 where nothing would die. */
  readonly lost: Float32Array;
  /** The elements that would die, lowest score first, group after group. */
  readonly dies: Uint32Array;
  /** `dies` of group g is [offsets[g], offsets[g + 1]); [numGroups + 1]. */
  readonly offsets: Uint32Array;
}

/**
 * Of each group the m - n elements that would die: dead ones count as such, then go the lowest scores, ties by
 * ascending index.
 * @param scores of the elements of one parameter, in flat order; those of dead ones are not looked at
 * @param alive one byte an element
 * @param unitOf group of each element
 */
export function nmGroups(
  scores: Float32Array,
  alive: Uint8Array,
  unitOf: Uint32Array,
  numGroups: number,
  n: number,
  m: number,
): NmGroups {
  const keys = keysInPlace(scores.slice());
  const members = new Uint32Array(numGroups * m);
  const count = new Uint32Array(numGroups);
  for (let i = 0; i < unitOf.length; i++) {
    if (alive[i] === 0) continue;
    const group = unitOf[i] as number;
    const held = count[group] as number;
    // Insertion keeps the group in order; equal keys stay in ascending index, as elements come in it.
    let at = group * m + held;
    while (at > group * m && (keys[members[at - 1] as number] as number) > (keys[i] as number)) {
      members[at] = members[at - 1] as number;
      at--;
    }
    members[at] = i;
    count[group] = held + 1;
  }
  const lost = new Float32Array(numGroups);
  const offsets = new Uint32Array(numGroups + 1);
  const dies = new Uint32Array(numGroups * (m - n));
  let next = 0;
  for (let group = 0; group < numGroups; group++) {
    const surplus = Math.max(0, (count[group] as number) - n);
    let sum = 0;
    for (let k = 0; k < surplus; k++) {
      const element = members[group * m + k] as number;
      sum += scores[element] as number;
      dies[next++] = element;
    }
    lost[group] = sum;
    offsets[group + 1] = next;
  }
  return { lost, dies: dies.slice(0, next), offsets };
}
