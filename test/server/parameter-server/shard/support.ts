import assert from 'node:assert/strict';
import type { ShardSnapshot } from '../../../../shared/checkpoint/manifest.ts';
import type { DecayConfig, RunConfig, SparsityRule } from '../../../../shared/config/types.ts';
import { WhittleError } from '../../../../shared/errors.ts';
import type { DyadicNode } from '../../../../shared/layout/dyadic.ts';
import type { RowNode } from '../../../../shared/layout/row-tree.ts';
import { ParameterSpace } from '../../../../shared/layout/parameter-space.ts';
import { planMaskUpdate } from '../../../../shared/sparsity/mask-update.ts';
import type { Push } from '../../../../server/parameter-server/push.ts';
import { Shard } from '../../../../server/parameter-server/shard.ts';
import type { ShardEvents } from '../../../../server/parameter-server/shard-events.ts';
import { engineConfig } from '../../../fixtures/config.ts';

export const SPACE = ParameterSpace.of([
  { name: 'dense_1/kernel', shape: [16, 8], layerKind: 'Dense', prunable: true },
  { name: 'dense_1/bias', shape: [8], layerKind: 'Dense', prunable: false },
]);
export const STATES = 3;

type Event =
  | { readonly kind: 'published'; readonly clock: number; readonly maskEpoch: number; readonly hasMask: boolean }
  | { readonly kind: 'hold'; readonly step: number }
  | { readonly kind: 'norm'; readonly step: number; readonly nodes: readonly DyadicNode[] }
  | { readonly kind: 'groups'; readonly step: number; readonly nodes: readonly RowNode[] }
  | { readonly kind: 'snapshot'; readonly clock: number; readonly snapshot: ShardSnapshot }
  | { readonly kind: 'consumed'; readonly push: Push }
  | {
      readonly kind: 'stepDone';
      readonly step: number;
      readonly loss: number;
      readonly sliceWorkers: readonly number[];
    };

export interface Subject {
  readonly shard: Shard;
  readonly events: Event[];
  /** Values that late pushes held for what had died. */
  readonly dropped: number[];
}

interface Options {
  readonly slices?: number;
  readonly clipNorm?: number;
  readonly decay?: Partial<DecayConfig>;
  readonly sparsity?: readonly SparsityRule[];
  /** Cuts of all servers; the shard is that of `rank`. */
  readonly cuts?: readonly number[];
  readonly rank?: number;
  readonly every?: number;
  readonly consistency?: RunConfig['consistency'];
}

export function make(options: Options = {}): Subject {
  const { slices = 3, clipNorm = null, sparsity = [], cuts = [0, SPACE.size], rank = 0, every = 1000 } = options;
  const base = engineConfig({}, slices);
  const config: RunConfig = {
    ...base,
    consistency: options.consistency ?? base.consistency,
    training: { ...base.training, clipNorm, decay: { ...base.training.decay, ...options.decay } },
    sparsity,
    checkpoint: { every, keep: 1 },
  };
  const events: Event[] = [];
  const dropped: number[] = [];
  const sink: ShardEvents = {
    published: (clock, maskEpoch, _weights, mask) =>
      events.push({ kind: 'published', clock, maskEpoch, hasMask: mask !== null }),
    hold: (step) => events.push({ kind: 'hold', step }),
    norm: (step, nodes) => events.push({ kind: 'norm', step, nodes }),
    groups: (step, nodes) => events.push({ kind: 'groups', step, nodes }),
    snapshot: (clock, _epoch, snapshot) => events.push({ kind: 'snapshot', clock, snapshot }),
    dropped: (_push, values) => dropped.push(values),
    consumed: (push) => events.push({ kind: 'consumed', push }),
    stepDone: (step, loss, sliceWorkers) => events.push({ kind: 'stepDone', step, loss, sliceWorkers }),
  };
  const [start, end] = [cuts[rank] ?? 0, cuts[rank + 1] ?? SPACE.size];
  const stateSize = rank === 0 ? STATES : 0;
  const shard = new Shard({ config, space: SPACE, start, end, servers: cuts.length - 1, stateSize, events: sink });
  shard.initialize(
    Float32Array.from({ length: end - start }, (_, i) => noise(7, start + i)),
    new Float32Array(stateSize),
  );
  return { shard, events, dropped };
}

/** Numbers of no pattern, the same for the same arguments, of float32's full length. */
export function noise(...keys: readonly number[]): number {
  let hash = 2166136261;
  for (const key of keys) hash = Math.imul(hash ^ (key + 0x9e3779b9), 16777619) ^ (hash >>> 13);
  return Math.fround((hash >>> 0) / 2 ** 31 - 1);
}

/** The one true copy of a slice: its dense gradient cut to the shard's range and packed over its mask. */
export function push({ shard }: Subject, step: number, slice: number, changes: Partial<Push> = {}): Push {
  const mask = shard.snapshot().mask;
  const gradient: number[] = [];
  for (let i = shard.start; i < shard.end; i += 1) {
    const at = i - shard.start;
    if (((mask[at >> 3] ?? 0) >> (at & 7)) & 1) gradient.push(noise(step, slice, i));
  }
  return {
    step,
    slice,
    sender: slice,
    maskEpoch: shard.maskEpoch,
    loss: noise(step, slice),
    examples: slice === 0 ? 12 : 10,
    gradient: Float32Array.from(gradient),
    stateDelta: Float32Array.from({ length: shard.start === 0 ? STATES : 0 }, (_, i) => noise(step, slice, 1000 + i)),
    ...changes,
  };
}

export function pushStep(subject: Subject, step: number, slices = 3): void {
  for (let slice = 0; slice < slices; slice += 1) assert.equal(subject.shard.push(push(subject, step, slice)), true);
}

/** All that a shard keeps, bit by bit. */
export function bits({ shard }: Subject): unknown {
  const { weights, slots, state, mask } = shard.snapshot();
  const raw = (values: Float32Array): number[] => [...new Uint32Array(values.slice().buffer)];
  return {
    clock: shard.clock,
    epoch: shard.maskEpoch,
    mask: [...mask],
    weights: raw(weights),
    slots: Object.entries(slots).map(([name, values]) => [name, raw(values)]),
    state: state === null ? null : raw(state),
  };
}

export function of<K extends Event['kind']>({ events }: Subject, kind: K): Extract<Event, { kind: K }>[] {
  return events.filter((event): event is Extract<Event, { kind: K }> => event.kind === kind);
}

export function refused(run: () => unknown, message: RegExp): void {
  assert.throws(
    run,
    (error) => error instanceof WhittleError && error.code === 'PROTOCOL' && message.test(error.message),
  );
}

export const RULE: SparsityRule = {
  match: '*/kernel',
  schedule: {
    kind: 'polynomial',
    initialSparsity: 0.25,
    finalSparsity: 0.5,
    beginStep: 2,
    endStep: 4,
    frequency: 1,
    power: 1,
  },
  criterion: 'magnitude',
  granularity: 'element',
  scope: 'global',
  regrowth: 'none',
  protect: { minSurvivorsPerParameter: 1 },
};

/** The commit record of the step that these shards hold at. */
export async function planned(subjects: readonly Subject[], step: number) {
  const sources = subjects.map(({ shard }) => ({
    histogram: async (query: Parameters<Shard['histogram']>[0]) => shard.histogram(query),
    scores: async (query: Parameters<Shard['scores']>[0]) => shard.scores(query),
  }));
  const cuts = [...subjects.map(({ shard }) => shard.start), SPACE.size];
  const units = { groups: [], refused: new Map() };
  return (await planMaskUpdate({ rules: [RULE], space: SPACE, units, step, seed: 1, sources, cuts })).selections;
}
