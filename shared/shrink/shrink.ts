import { WhittleError } from '../errors.ts';
import { couplingsOf, OUTPUT, type Couplings } from '../model-graph/couplings.ts';
import { groupUnits } from '../model-graph/unit-groups.ts';
import { emptyBitmap, getBit, setBit } from '../sparsity/bitmap.ts';
import { candidatesOf, type ShrinkScope } from './candidates.ts';
import { traceConstants, type Fold } from './constants.ts';
import { EffectiveValues, forEachOnAxis } from './effective.ts';
import { offsetsOf, type FlatModel } from './flat-model.ts';
import { keptPositions, rewriteDescription } from './rewrite.ts';

/** Units of the kernels that make them together. */
export interface ShrunkUnits {
  /** Names of kernels. */
  readonly producers: readonly string[];
  readonly before: number;
  readonly after: number;
}

export interface RefusedUnits {
  readonly producers: readonly string[];
  /** How many units stay for this reason. */
  readonly units: number;
  readonly why: string;
}

export interface Shrunk {
  readonly model: FlatModel;
  /** Every group of removable units, also those that lost none. */
  readonly units: readonly ShrunkUnits[];
  /** Units that would go but for what is met after them. */
  readonly refused: readonly RefusedUnits[];
}

/**
 * Removes units for good: the model computes the same (at inference) with smaller tensors. What survives keeps its
 * values and slots; constants of removed units are added to the biases after them. At least one unit stays of each
 * kernel. Pure. Errors: MODEL, where the topology cannot be read.
 */
export function shrinkModel(model: FlatModel, scope: ShrinkScope): Shrunk {
  const first = shrinkOnce(model, scope);
  if (scope === 'masked') return first;
  // Units that only removed ones read, or that read only removed ones, are useless now.
  let last = first;
  for (let next = first; next.numRemoved > 0;) {
    next = shrinkOnce(last.model, scope);
    last = next;
  }
  const after = new Map(last.units.map(({ producers, after: units }) => [producers.join(), units]));
  return {
    model: last.model,
    units: first.units.map((group) => ({ ...group, after: after.get(group.producers.join()) ?? group.after })),
    refused: last.refused,
  };
}

function shrinkOnce(model: FlatModel, scope: ShrinkScope): Shrunk & { readonly numRemoved: number } {
  const { description } = model;
  const couplings = couplingsOf(description);
  const values = new EffectiveValues(model);
  const candidates = candidatesOf(couplings, values, scope);
  const { removable, blocked, folds } = traceConstants(description, couplings, values, candidates);
  keepOneOfEach(couplings, removable);
  const { groups } = groupUnits(description, couplings);
  const removed = countByProducers(couplings, removable);
  return {
    model: removable.size === 0 ? model : cut(model, couplings, removable, folds),
    units: groups.map(({ producers, units }) => ({
      producers,
      before: units,
      after: units - (removed.get(producers.join()) ?? 0),
    })),
    refused: [...refusals(couplings, blocked), ...unknownDead(description, couplings, values)],
    numRemoved: removable.size,
  };
}

/** TensorFlow.js has no layers of 0 units. */
function keepOneOfEach({ axes, unions }: Couplings, removable: Set<number>): void {
  for (const { role, labels } of axes) {
    if (role !== 'kernel') continue;
    const units = [...labels].map((label) => unions.find(label));
    if (units.every((unit) => removable.has(unit))) removable.delete(Math.min(...units));
  }
}

function producersOf({ unions, producers }: Couplings, unit: number): string[] {
  const names = new Set<string>();
  for (const [label, name] of producers.entries()) if (unions.find(label) === unit) names.add(name);
  return [...names];
}

function countByProducers(couplings: Couplings, units: Iterable<number>): Map<string, number> {
  const makers = new Map<number, Set<string>>();
  for (const [label, name] of couplings.producers.entries()) {
    const unit = couplings.unions.find(label);
    makers.set(unit, (makers.get(unit) ?? new Set()).add(name));
  }
  const counts = new Map<string, number>();
  for (const unit of units) {
    const key = [...(makers.get(unit) ?? [])].join();
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

function refusals(couplings: Couplings, blocked: ReadonlyMap<number, string>): RefusedUnits[] {
  const byReason = new Map<string, { producers: string[]; units: number; why: string }>();
  for (const [unit, why] of blocked) {
    const producers = producersOf(couplings, unit);
    const key = `${producers.join()} ${why}`;
    const known = byReason.get(key) ?? { producers, units: 0, why };
    known.units++;
    byReason.set(key, known);
  }
  return [...byReason.values()];
}

/** Outputs of zeros that stay because their couplings are not known. */
function unknownDead(
  { parameters }: FlatModel['description'],
  { axes, unions, refused }: Couplings,
  values: EffectiveValues,
): RefusedUnits[] {
  const kernels = axes
    .filter(({ role }) => role === 'kernel')
    .map(({ parameter, axis, labels }) => ({ parameter, axis, why: (o: number) => unions.reason(labels[o]!) }));
  // Layers that are refused have no labels; the outputs of a kernel are in its last axis, but where it is transposed.
  for (const { name, shape, layerKind, prunable } of parameters) {
    const why = refused.get(name.slice(0, name.lastIndexOf('/')));
    if (prunable && why !== undefined && !layerKind.endsWith('Transpose'))
      kernels.push({ parameter: name, axis: shape.length - 1, why: () => why });
  }
  return kernels.flatMap(({ parameter, axis, why: reasonOf }) => {
    const shape = values.shape(parameter);
    const weights = values.of(parameter);
    const isAlive = new Uint8Array(shape[axis] ?? 0);
    forEachOnAxis(shape, axis, (element, o) => {
      if (weights[element] !== 0) isAlive[o] = 1;
    });
    const counts = new Map<string, number>();
    for (const [o, alive] of isAlive.entries()) {
      const why = reasonOf(o);
      if (alive === 0 && why !== null && why !== OUTPUT) counts.set(why, (counts.get(why) ?? 0) + 1);
    }
    return [...counts].map(([why, units]) => ({ producers: [parameter], units, why }));
  });
}

function cut(
  model: FlatModel,
  couplings: Couplings,
  removed: ReadonlySet<number>,
  folds: ReadonlyMap<number, readonly Fold[]>,
): FlatModel {
  const { description, stored, mask } = model;
  const kept = keptElements(description.parameters, couplings, removed);
  const keptState = keptElements(description.states, couplings, removed);
  const gather = (values: Float32Array, elements: readonly number[]): Float32Array =>
    Float32Array.from(elements, (element) => values[element]!);
  const gatherBits = (bits: Uint8Array): Uint8Array => {
    const result = emptyBitmap(kept.length);
    for (const [i, element] of kept.entries()) if (getBit(bits, element)) setBit(result, i);
    return result;
  };
  return {
    description: rewriteDescription(description, couplings, removed),
    weights: gather(withFolds(model, removed, folds), kept),
    slots: Object.fromEntries(Object.entries(model.slots).map(([name, values]) => [name, gather(values, kept)])),
    stored: gatherBits(stored),
    mask: gatherBits(mask),
    state: gather(model.state, keptState),
  };
}

/** The weights with the constants of removed units added to biases, in float64, units in ascending order. */
function withFolds(
  { description, weights }: FlatModel,
  removed: ReadonlySet<number>,
  folds: ReadonlyMap<number, readonly Fold[]>,
): Float32Array {
  const sums = new Map<string, Float64Array>();
  for (const unit of [...removed].sort((a, b) => a - b)) {
    for (const { bias, amounts } of folds.get(unit) ?? []) {
      const sum = sums.get(bias) ?? new Float64Array(amounts.length);
      sums.set(
        bias,
        sum.map((value, i) => value + amounts[i]!),
      );
    }
  }
  const result = weights.slice();
  const places = offsetsOf(description.parameters);
  for (const [bias, sum] of sums) {
    const place = places.get(bias);
    if (place === undefined) throw new WhittleError('INTERNAL', `the model has no bias ${bias}`);
    for (const [i, amount] of sum.entries()) if (amount !== 0) result[place.offset + i]! += amount;
  }
  return result;
}

/** Flat indices of what stays of tensors laid end to end, ascending. */
function keptElements(
  tensors: readonly { readonly name: string; readonly shape: readonly number[] }[],
  couplings: Couplings,
  removed: ReadonlySet<number>,
): number[] {
  const elements: number[] = [];
  for (const [name, { shape, offset, size }] of offsetsOf(tensors)) {
    const isGone = new Uint8Array(size);
    for (const { parameter, axis, labels } of couplings.axes) {
      if (parameter !== name) continue;
      const kept = keptPositions(labels, couplings, removed);
      if (kept === null) continue;
      const stays = new Set(kept);
      forEachOnAxis(shape, axis, (element, position) => {
        if (!stays.has(position)) isGone[element] = 1;
      });
    }
    for (let e = 0; e < size; e++) if (isGone[e] === 0) elements.push(offset + e);
  }
  return elements;
}
