import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { ShardSnapshot } from '../../../shared/checkpoint/manifest.ts';
import type { RunConfig, SparsityRule } from '../../../shared/config/types.ts';
import { WhittleError } from '../../../shared/errors.ts';
import type { DyadicNode } from '../../../shared/layout/dyadic.ts';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { planMaskUpdate } from '../../../shared/sparsity/mask-update.ts';
import { type Push, Shard, type ShardEvents } from '../../../server/parameter-server/shard.ts';
import { engineConfig } from '../../fixtures/config.ts';

const SPACE = ParameterSpace.of([
  { name: 'dense_1/kernel', shape: [16, 8], layerKind: 'Dense', prunable: true },
  { name: 'dense_1/bias', shape: [8], layerKind: 'Dense', prunable: false },
]);
const STATES = 3;

type Event =
  | { readonly kind: 'published'; readonly clock: number; readonly maskEpoch: number; readonly hasMask: boolean }
  | { readonly kind: 'hold'; readonly step: number }
  | { readonly kind: 'norm'; readonly step: number; readonly nodes: readonly DyadicNode[] }
  | { readonly kind: 'snapshot'; readonly clock: number; readonly snapshot: ShardSnapshot }
  | { readonly kind: 'consumed'; readonly push: Push }
  | {
      readonly kind: 'stepDone';
      readonly step: number;
      readonly loss: number;
      readonly sliceWorkers: readonly number[];
    };

interface Subject {
  readonly shard: Shard;
  readonly events: Event[];
}

interface Options {
  readonly slices?: number;
  readonly clipNorm?: number;
  readonly sparsity?: readonly SparsityRule[];
  /** Cuts of all servers; the shard is that of `rank`. */
  readonly cuts?: readonly number[];
  readonly rank?: number;
  readonly every?: number;
}

function make(options: Options = {}): Subject {
  const { slices = 3, clipNorm = null, sparsity = [], cuts = [0, SPACE.size], rank = 0, every = 1000 } = options;
  const base = engineConfig({}, slices);
  const config: RunConfig = {
    ...base,
    training: { ...base.training, clipNorm },
    sparsity,
    checkpoint: { every, keep: 1 },
  };
  const events: Event[] = [];
  const sink: ShardEvents = {
    published: (clock, maskEpoch, _weights, mask) =>
      events.push({ kind: 'published', clock, maskEpoch, hasMask: mask !== null }),
    hold: (step) => events.push({ kind: 'hold', step }),
    norm: (step, nodes) => events.push({ kind: 'norm', step, nodes }),
    snapshot: (clock, _epoch, snapshot) => events.push({ kind: 'snapshot', clock, snapshot }),
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
  return { shard, events };
}

/** Numbers of no pattern, the same for the same arguments, of float32's full length. */
function noise(...keys: readonly number[]): number {
  let hash = 2166136261;
  for (const key of keys) hash = Math.imul(hash ^ (key + 0x9e3779b9), 16777619) ^ (hash >>> 13);
  return Math.fround((hash >>> 0) / 2 ** 31 - 1);
}

/** The one true copy of a slice: its dense gradient cut to the shard's range and packed over its mask. */
function push({ shard }: Subject, step: number, slice: number, changes: Partial<Push> = {}): Push {
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

function pushStep(subject: Subject, step: number, slices = 3): void {
  for (let slice = 0; slice < slices; slice += 1) assert.equal(subject.shard.push(push(subject, step, slice)), true);
}

/** All that a shard keeps, bit by bit. */
function bits({ shard }: Subject): unknown {
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

function of<K extends Event['kind']>({ events }: Subject, kind: K): Extract<Event, { kind: K }>[] {
  return events.filter((event): event is Extract<Event, { kind: K }> => event.kind === kind);
}

function refused(run: () => unknown, message: RegExp): void {
  assert.throws(
    run,
    (error) => error instanceof WhittleError && error.code === 'PROTOCOL' && message.test(error.message),
  );
}

const RULE: SparsityRule = {
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
async function planned(subjects: readonly Subject[], step: number) {
  const sources = subjects.map(({ shard }) => ({
    histogram: async (query: Parameters<Shard['histogram']>[0]) => shard.histogram(query),
  }));
  return (await planMaskUpdate({ rules: [RULE], space: SPACE, step, sources })).selections;
}

describe('the shard of a parameter server', () => {
  describe('slices', () => {
    /** For each step: true copies of all slices in some order, and repeats of what was pushed before. */
    const slices = 4;
    const order = fc.tuple(
      fc.shuffledSubarray([0, 1, 2, 3], { minLength: slices, maxLength: slices }),
      fc.array(
        fc.record({
          after: fc.integer({ min: 0, max: slices - 1 }),
          sender: fc.integer({ min: 0, max: 9 }),
          back: fc.integer({ min: 0, max: 2 }),
        }),
        {
          maxLength: 6,
        },
      ),
    );

    it('give the same bits in any order and however often they are repeated, by anyone', () => {
      const straight = make({ slices });
      const steps = 4;
      for (let step = 1; step <= steps; step += 1) pushStep(straight, step, slices);
      const expected = bits(straight);
      const losses = of(straight, 'stepDone').map(({ loss }) => loss);

      fc.assert(
        fc.property(fc.array(order, { minLength: steps, maxLength: steps }), (plan) => {
          const subject = make({ slices });
          plan.forEach(([sequence, repeats], i) => {
            const step = i + 1;
            sequence.forEach((slice, position) => {
              assert.equal(subject.shard.push(push(subject, step, slice)), true);
              for (const { after, sender, back } of repeats) {
                if (after !== position) continue;
                // A repeat may come from another worker, and may be of an earlier step; it counts for nothing, whatever it holds.
                const repeated = push(subject, step - back, slice, { sender, loss: 1e9 });
                repeated.gradient.fill(1e9);
                assert.equal(subject.shard.push(repeated), true);
              }
            });
          });
          assert.deepEqual(bits(subject), expected);
          assert.deepEqual(
            of(subject, 'stepDone').map(({ loss }) => loss),
            losses,
          );
          for (const { sliceWorkers } of of(subject, 'stepDone')) assert.deepEqual(sliceWorkers, [0, 1, 2, 3]);
          const consumed = of(subject, 'consumed').map((event) => event.push);
          assert.equal(new Set(consumed).size, consumed.length, 'every push is given back once');
          assert.equal(
            consumed.length,
            plan.reduce((sum, [sequence, repeats]) => sum + sequence.length + repeats.length, 0),
          );
        }),
      );
    });

    it('are added in slice order in float32, weighted by their examples', () => {
      const subject = make();
      const pushes = [0, 1, 2].map((slice) => push(subject, 1, slice));
      for (const each of [...pushes].reverse()) subject.shard.push(each);
      const expected = new Float32Array(SPACE.size);
      let loss = 0;
      for (const { gradient, examples, loss: own } of pushes) {
        gradient.forEach((value, i) => (expected[i] = (expected[i] ?? 0) + (examples / 32) * value));
        loss += (examples / 32) * own;
      }
      // The first step leaves the gradient itself in the momentum.
      const { slots, state } = subject.shard.snapshot();
      assert.deepEqual(Object.values(slots)[0], expected);
      const states = Float32Array.from({ length: STATES }, () => 0);
      for (const { stateDelta, examples } of pushes)
        stateDelta.forEach((value, i) => (states[i] = (states[i] ?? 0) + (examples / 32) * value));
      assert.deepEqual(state, states);
      assert.deepEqual(of(subject, 'stepDone'), [{ kind: 'stepDone', step: 1, loss, sliceWorkers: [0, 1, 2] }]);
    });

    it('of a step in the future, of no slice or of another length are refused and change nothing', () => {
      const subject = make();
      const { shard } = subject;
      shard.push(push(subject, 1, 0));
      const before = bits(subject);
      refused(() => shard.push(push(subject, 2, 0)), /push for step 2 while the shard is at clock 0/);
      refused(() => shard.push(push(subject, 1, 3)), /push of slice 3 of 3/);
      refused(
        () => shard.push(push(subject, 1, 1, { gradient: new Float32Array(5) })),
        /gradient: 5 values where the shard keeps 136/,
      );
      refused(
        () => shard.push(push(subject, 1, 1, { stateDelta: new Float32Array(1) })),
        /state delta: 1 values where the shard keeps 3/,
      );
      assert.deepEqual(bits(subject), before);
      shard.push(push(subject, 1, 1));
      shard.push(push(subject, 1, 2));
      const straight = make();
      pushStep(straight, 1);
      assert.deepEqual(bits(subject), bits(straight));
    });
  });

  describe('mask commits', () => {
    it('hold the shard, apply once, and are acknowledged again', async () => {
      const subject = make({ sparsity: [RULE] });
      const { shard } = subject;
      refused(
        () => shard.histogram({ criterion: 'magnitude', groups: [], prior: [], round: 0, prefixes: [] }),
        /not holding/,
      );
      pushStep(subject, 1);
      assert.equal(shard.phase, 'collecting');
      pushStep(subject, 2);
      assert.equal(shard.phase, 'hold');
      assert.deepEqual(of(subject, 'hold'), [{ kind: 'hold', step: 2 }]);
      assert.equal(of(subject, 'published').at(-1)?.clock, 1, 'nothing is answered before the mask is known');
      const [selections] = await planned([subject], 2);
      assert.ok(selections);

      const before = bits(subject);
      refused(() => shard.commit(2, 2, selections), /does not follow epoch 0/);
      refused(() => shard.commit(1, 1, selections), /at step 1 does not follow/);
      assert.deepEqual(bits(subject), before);

      // 25 % of 128 kernel elements go; the 8 of the bias stay.
      assert.equal(shard.commit(2, 1, selections), 136 - 32);
      const once = bits(subject);
      const published = of(subject, 'published').length;
      assert.deepEqual(of(subject, 'published').at(-1), { kind: 'published', clock: 2, maskEpoch: 1, hasMask: true });
      assert.equal(shard.commit(2, 1, selections), 136 - 32);
      assert.equal(shard.commit(2, 1, []), 136 - 32);
      assert.deepEqual(bits(subject), once);
      assert.equal(of(subject, 'published').length, published);
    });

    it('make pushes under an older epoch void', async () => {
      const subject = make({ sparsity: [RULE] });
      const { shard } = subject;
      pushStep(subject, 1);
      pushStep(subject, 2);
      const old = push(subject, 3, 0);
      shard.commit(2, 1, (await planned([subject], 2))[0] ?? []);
      const before = bits(subject);
      assert.equal(shard.push(old), false, 'answered NEED_MASK');
      assert.equal(of(subject, 'consumed').at(-1)?.push, old);
      assert.deepEqual(bits(subject), before);
      pushStep(subject, 3);
      assert.equal(shard.clock, 3);
    });

    it('and pushes give the same bits on two shards as on one', async () => {
      const one = [make({ sparsity: [RULE] })];
      const two = [0, 1].map((rank) => make({ sparsity: [RULE], cuts: [0, 64, SPACE.size], rank }));
      for (const subjects of [one, two]) {
        for (let step = 1; step <= 5; step += 1) {
          for (const subject of subjects) pushStep(subject, step);
          if (step < 2 || step > 4) continue;
          const selections = await planned(subjects, step);
          subjects.forEach(({ shard }, i) => shard.commit(step, step - 1, selections[i] ?? []));
        }
      }
      const joined = two.flatMap(({ shard }) => [...shard.snapshot().weights]);
      assert.deepEqual(joined, [...(one[0]?.shard.snapshot().weights ?? [])]);
      assert.equal(joined.length, 136 - 64);
    });
  });

  describe('a cut', () => {
    it('is taken once, at its clock, with exactly the steps up to it', () => {
      const subject = make({ every: 2 });
      const clocks = (): number[] => of(subject, 'snapshot').map(({ clock }) => clock);
      assert.deepEqual(clocks(), [0], 'checkpoint 0 precedes step 1');
      assert.equal(subject.shard.cutAt(3, false), true);
      assert.equal(subject.shard.cutAt(3, false), true);
      for (let step = 1; step <= 4; step += 1) pushStep(subject, step);
      assert.deepEqual(clocks(), [0, 2, 3, 4]);
      const straight = make();
      for (let step = 1; step <= 3; step += 1) pushStep(straight, step);
      assert.deepEqual(of(subject, 'snapshot')[2]?.snapshot, straight.shard.snapshot());
      assert.equal(subject.shard.cutAt(3, true), false, 'already past it');
      assert.equal(subject.shard.cutAt(4, false), true);
      assert.deepEqual(clocks(), [0, 2, 3, 4], 'of the clock it is at there is one already');
      pushStep(subject, 5);
      assert.equal(subject.shard.cutAt(5, false), true);
      assert.deepEqual(clocks(), [0, 2, 3, 4, 5]);
    });

    it('that stops applies nothing later, and keeps what comes for a later stop', () => {
      fc.assert(
        fc.property(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 3 }), (early, late) => {
          const subject = make();
          pushStep(subject, 1);
          // Some slices of step 2 come before the order to stop, some after.
          for (let slice = 0; slice < Math.min(early, 2); slice += 1) subject.shard.push(push(subject, 2, slice));
          assert.equal(subject.shard.cutAt(1, true), true);
          for (let slice = Math.min(early, 2); slice < late; slice += 1) subject.shard.push(push(subject, 2, slice));
          assert.equal(subject.shard.clock, 1);
          assert.equal(of(subject, 'snapshot').at(-1)?.clock, 1);
          // Another server was past it: a later clock is proposed, and every slice is sent once only.
          assert.equal(subject.shard.cutAt(3, true), true);
          for (let slice = Math.max(Math.min(early, 2), late); slice < 3; slice += 1)
            subject.shard.push(push(subject, 2, slice));
          pushStep(subject, 3);
          pushStep(subject, 4);
          assert.equal(subject.shard.clock, 3);
          assert.equal(of(subject, 'snapshot').at(-1)?.clock, 3);
          const straight = make();
          for (let step = 1; step <= 3; step += 1) pushStep(straight, step);
          assert.deepEqual(bits(subject), bits(straight));
        }),
      );
    });

    it('is refused where only the norms of the peers are missing for the next step', () => {
      const subject = make({ clipNorm: 1, cuts: [0, 64, SPACE.size] });
      pushStep(subject, 1);
      assert.equal(subject.shard.phase, 'norm');
      assert.equal(subject.shard.cutAt(0, true), false);
      assert.equal(subject.shard.cutAt(1, true), true);
    });
  });

  describe('clipping by global norm', () => {
    const cuts = [0, 64, SPACE.size];

    it('waits for the sums of all servers, early or late, and clips as one shard does', () => {
      const alone = make({ clipNorm: 0.5 });
      const pair = [0, 1].map((rank) => make({ clipNorm: 0.5, cuts, rank }));
      const [first, second] = pair;
      assert.ok(first && second);
      for (let step = 1; step <= 3; step += 1) {
        pushStep(alone, step);
        alone.shard.peerNorm(step, 0, of(alone, 'norm').at(-1)?.nodes ?? []);
        pushStep(first, step);
        const own = of(first, 'norm').at(-1);
        assert.equal(own?.step, step);
        first.shard.peerNorm(step, 0, own.nodes);
        assert.equal(first.shard.phase, 'norm');
        assert.equal(first.shard.clock, step - 1, 'waits for the other');
        // The other hears of the first before it has its slices.
        second.shard.peerNorm(step, 0, own.nodes);
        assert.equal(second.shard.clock, step - 1);
        pushStep(second, step);
        const other = of(second, 'norm').at(-1)?.nodes ?? [];
        second.shard.peerNorm(step, 1, other);
        first.shard.peerNorm(step, 1, other);
        assert.deepEqual([first.shard.clock, second.shard.clock, alone.shard.clock], [step, step, step]);
        const before = bits(first);
        first.shard.peerNorm(step, 1, other);
        assert.deepEqual(bits(first), before, 'a late repeat changes nothing');
      }
      const joined = pair.flatMap(({ shard }) => [...shard.snapshot().weights]);
      assert.deepEqual(joined, [...alone.shard.snapshot().weights]);
      const free = make();
      for (let step = 1; step <= 3; step += 1) pushStep(free, step);
      assert.notDeepEqual(joined, [...free.shard.snapshot().weights], 'the limit was below the norm');
    });
  });

  it('goes on from a checkpoint with the bits of a shard that never stopped', () => {
    const straight = make();
    for (let step = 1; step <= 2; step += 1) pushStep(straight, step);
    const snapshot = straight.shard.snapshot();
    const base = engineConfig({}, 3);
    const subject: Subject = {
      events: [],
      shard: new Shard({
        config: base,
        space: SPACE,
        start: 0,
        end: SPACE.size,
        servers: 1,
        stateSize: STATES,
        events: {
          published: () => undefined,
          hold: () => undefined,
          norm: () => undefined,
          snapshot: () => undefined,
          consumed: () => undefined,
          stepDone: () => undefined,
        },
      }),
    };
    refused(() => subject.shard.push(push(straight, 1, 0)), /at clock 0/);
    subject.shard.restore(2, 0, snapshot);
    subject.shard.restore(1, 0, snapshot);
    subject.shard.initialize(new Float32Array(SPACE.size), new Float32Array(STATES));
    for (const each of [subject, straight]) pushStep(each, 3);
    assert.deepEqual(bits(subject), bits(straight));
  });
});
