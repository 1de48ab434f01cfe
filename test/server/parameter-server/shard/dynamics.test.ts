import assert from 'node:assert/strict';
import type { ShardSnapshot } from '../../../../shared/checkpoint/manifest.ts';
import type { RunConfig, SparsityRule } from '../../../../shared/config/types.ts';
import type { ParameterSpec } from '../../../../shared/layout/model-description.ts';
import { ParameterSpace } from '../../../../shared/layout/parameter-space.ts';
import type { ModelUnits } from '../../../../shared/model-graph/unit-groups.ts';
import { concatBits, countBits, getBit } from '../../../../shared/sparsity/bitmap.ts';
import { needsProbe, pushedSet } from '../../../../shared/sparsity/gradient-set.ts';
import { planMaskUpdate, type RuleReport } from '../../../../shared/sparsity/mask-update.ts';
import { Shard } from '../../../../server/parameter-server/shard.ts';
import type { ShardEvents } from '../../../../server/parameter-server/shard-events.ts';
import { engineConfig } from '../../../fixtures/config.ts';
import { noise } from './support.ts';

const STEPS = 12;
const SLICES = 2;
const specs: ParameterSpec[] = [
  { name: 'dense_1/kernel', shape: [16, 8], layerKind: 'Dense', prunable: true },
  { name: 'dense_1/bias', shape: [8], layerKind: 'Dense', prunable: false },
  { name: 'dense_2/kernel', shape: [8, 4], layerKind: 'Dense', prunable: true },
  { name: 'dense_2/bias', shape: [4], layerKind: 'Dense', prunable: false },
];
const SPACE = ParameterSpace.of(specs);
const all = [0, 1, 2, 3, 4, 5, 6, 7].map((unit) => [unit]);
const UNITS: ModelUnits = {
  groups: [
    {
      producers: ['dense_1/kernel'],
      units: 8,
      members: [
        { parameter: 'dense_1/kernel', role: 'kernel', axis: 1, positions: all },
        { parameter: 'dense_1/bias', role: 'bias', axis: 0, positions: all },
        { parameter: 'dense_2/kernel', role: 'consumer', axis: 0, positions: all },
      ],
    },
  ],
  refused: new Map([['dense_2/kernel', { isOutput: true, why: 'they are outputs of the model' }]]),
};

const rising = {
  kind: 'polynomial',
  initialSparsity: 0,
  finalSparsity: 0.5,
  beginStep: 2,
  endStep: 8,
  frequency: 2,
  power: 3,
} as const;
const steady = { kind: 'constant', finalSparsity: 0.5, beginStep: 0, endStep: 8, frequency: 2 } as const;
const rule = (changes: Partial<SparsityRule> = {}): SparsityRule => ({
  match: null,
  schedule: rising,
  criterion: 'magnitude',
  granularity: 'element',
  scope: 'global',
  regrowth: 'none',
  protect: { minSurvivorsPerParameter: 0 },
  ...changes,
});

/** A run of a few steps over any number of shards, each killed and restored where `restoreAt` says. */
async function run(
  rules: readonly SparsityRule[],
  cuts: readonly number[],
  restoreAt?: number,
  optimizer: RunConfig['training']['optimizer'] = {
    kind: 'adam',
    learningRate: 0.05,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
  },
  decay: Partial<RunConfig['training']['decay']> = {},
): Promise<{ bits: unknown; dead: number[]; reports: RuleReport[]; snapshots: ShardSnapshot[] }> {
  const base = engineConfig({}, SLICES);
  const config: RunConfig = {
    ...base,
    data: { ...base.data, batchSize: 8 },
    training: {
      ...base.training,
      optimizer,
      steps: STEPS,
      clipNorm: null,
      decay: { ...base.training.decay, ...decay },
    },
    sparsity: rules,
    checkpoint: { every: 1, keep: 1 },
  };
  const dead: number[] = [];
  const reports: RuleReport[] = [];
  const snapshots = new Map<number, Map<number, { maskEpoch: number; snapshot: ShardSnapshot }>>();
  const make = (rank: number): Shard => {
    const ignore = (): void => undefined;
    const events: ShardEvents = {
      published: ignore,
      hold: ignore,
      norm: ignore,
      consumed: ignore,
      stepDone: ignore,
      snapshot: (clock, maskEpoch, snapshot) => {
        const known = snapshots.get(clock) ?? new Map<number, { maskEpoch: number; snapshot: ShardSnapshot }>();
        snapshots.set(clock, known.set(rank, { maskEpoch, snapshot }));
      },
    };
    const [start, end] = [cuts[rank] ?? 0, cuts[rank + 1] ?? 0];
    return new Shard({ config, space: SPACE, start, end, servers: cuts.length - 1, stateSize: 0, events });
  };
  let shards = cuts.slice(1).map((_, rank) => make(rank));
  for (const shard of shards) {
    const values = Array.from({ length: shard.end - shard.start }, (_, i) => noise(7, shard.start + i));
    shard.initialize(Float32Array.from(values), new Float32Array(0));
  }
  const update = async (): Promise<void> => {
    if (!shards.some(({ phase }) => phase === 'hold')) return;
    assert.ok(shards.every(({ phase }) => phase === 'hold'));
    const step = shards[0]?.clock ?? 0;
    const sources = shards.map((shard) => ({
      histogram: (query: Parameters<Shard['histogram']>[0]) => Promise.resolve(shard.histogram(query)),
      scores: (query: Parameters<Shard['scores']>[0]) => Promise.resolve(shard.scores(query)),
    }));
    const plan = await planMaskUpdate({ rules, space: SPACE, units: UNITS, step, seed: 3, sources, cuts });
    const epoch = (shards[0]?.maskEpoch ?? 0) + 1;
    // As it travels and is kept.
    const kept = JSON.parse(JSON.stringify(plan.selections)) as typeof plan.selections;
    shards.forEach((shard, i) => shard.commit(step, epoch, kept[i] ?? []));
    reports.push(...plan.reports);
  };
  const pushAll = (step: number): void => {
    for (let slice = 0; slice < SLICES; slice++) {
      for (const shard of shards) {
        const { mask } = shard.snapshot();
        const set = pushedSet(mask, shard.start, shard.end, rules, SPACE, step);
        const gradient: number[] = [];
        for (let i = shard.start; i < shard.end; i++)
          if (getBit(set, i - shard.start)) gradient.push(noise(Math.max(1, step), slice, i));
        shard.push({
          step,
          slice,
          sender: slice,
          maskEpoch: shard.maskEpoch,
          loss: 1,
          examples: 4,
          gradient: Float32Array.from(gradient),
          stateDelta: new Float32Array(0),
        });
      }
    }
  };
  /** Where the update of step 0 ranks gradients, the first batch is computed for it, and checkpoint 0 precedes it. */
  const updateStepZero = async (): Promise<void> => {
    if (needsProbe(rules) && shards[0]?.clock === 0 && shards[0].maskEpoch === 0) pushAll(0);
    await update();
  };
  await updateStepZero();
  for (let step = 1; step <= STEPS; step++) {
    if (step - 1 === restoreAt) {
      const cut = snapshots.get(restoreAt);
      shards = cuts.slice(1).map((_, rank) => make(rank));
      shards.forEach((shard, rank) => {
        const { maskEpoch, snapshot } = cut?.get(rank) ?? assert.fail();
        shard.restore(restoreAt, maskEpoch, snapshot);
      });
      await updateStepZero();
    }
    pushAll(step);
    await update();
    assert.deepEqual(
      shards.map(({ clock }) => clock),
      shards.map(() => step),
    );
    dead.push(SPACE.size - shards.reduce((sum, shard) => sum + countBits(shard.snapshot().mask), 0));
  }
  const last = shards.map((shard) => shard.snapshot());
  const join = (values: (snapshot: ShardSnapshot) => Float32Array): number[] =>
    last.flatMap((snapshot) => [...new Uint32Array(values(snapshot).slice().buffer)]);
  const lengths = cuts.slice(1).map((end, i) => end - (cuts[i] ?? 0));
  const joined = (of: (snapshot: ShardSnapshot) => Uint8Array): number[] => [
    ...concatBits(last.map((snapshot, i) => ({ bits: of(snapshot), length: lengths[i] ?? 0 }))),
  ];
  return {
    bits: {
      mask: joined(({ mask }) => mask),
      stored: joined(({ stored }) => stored),
      weights: join(({ weights }) => weights),
      slots: Object.keys(last[0]?.slots ?? {}).map((name) => [name, join(({ slots }) => slots[name] ?? assert.fail())]),
    },
    dead,
    reports,
    snapshots: last,
  };
}

const CUTS = [
  [0, SPACE.size],
  [0, 64, SPACE.size],
  [0, 64, 128, SPACE.size],
];

const RULES: Record<string, SparsityRule> = {
  magnitude: rule(),
  'normalized magnitude': rule({ criterion: 'normalizedMagnitude' }),
  'gradient magnitude': rule({ criterion: 'gradient' }),
  saliency: rule({ criterion: 'saliency' }),
  movement: rule({ criterion: 'movement' }),
  'movement, straight-through': rule({ criterion: 'movement', straightThrough: true }),
  random: rule({ criterion: 'random' }),
  Fisher: rule({ criterion: 'fisher' }),
  SNIP: rule({
    criterion: 'snip',
    schedule: { kind: 'oneShot', finalSparsity: 0.5, beginStep: 0, endStep: 0, frequency: 1 },
  }),
  LAMP: rule({ criterion: 'lamp' }),
  ERK: rule({ scope: 'erk' }),
  ER: rule({ scope: 'er' }),
  'layer by layer': rule({ scope: 'layer' }),
  'blocks of 2 x 2': rule({ granularity: { block: [2, 2], norm: 2 } }),
  '2:4': rule({ granularity: { nm: [2, 4] } }),
  neurons: rule({ granularity: { neuron: { norm: 1 } } }),
  SET: rule({ schedule: steady, regrowth: { kind: 'set', fraction: 0.3, initial: 'random' } }),
  RigL: rule({ schedule: steady, regrowth: { kind: 'rigl', fraction: 0.3, initial: 'magnitude' } }),
  'RigL from SNIP, ERK': rule({
    schedule: steady,
    scope: 'erk',
    regrowth: { kind: 'rigl', fraction: 0.3, initial: 'snip' },
  }),
  'straight-through': rule({ straightThrough: true }),
  'cyclic blocks': rule({
    granularity: { block: [2, 2], norm: 2 },
    schedule: {
      kind: 'cyclic',
      finalSparsity: 0.5,
      beginStep: 2,
      endStep: 10,
      frequency: 1,
      sparseSteps: 2,
      denseSteps: 2,
    },
  }),
  cyclic: rule({
    schedule: {
      kind: 'cyclic',
      finalSparsity: 0.5,
      beginStep: 2,
      endStep: 10,
      frequency: 1,
      sparseSteps: 2,
      denseSteps: 2,
    },
  }),
};

describe('mask dynamics on shards', () => {
  for (const [name, tried] of Object.entries(RULES)) {
    it(`${name}: the same bits on 1, 2 and 3 servers, and killed and resumed at any clock`, async () => {
      const [one, two, three] = await Promise.all(CUTS.map((cuts) => run([tried], cuts)));
      assert.ok(one && two && three);
      assert.deepEqual(two.bits, one.bits);
      assert.deepEqual(three.bits, one.bits);
      assert.ok((one.dead.at(-1) ?? 0) > 0);
      const total = 'neuron' in Object(tried.granularity) ? null : 160;
      const removed = one.reports.at(-1)?.removed;
      if (total !== null && tried.granularity === 'element') {
        assert.equal(one.dead.at(-1), 80, 'exactly half of the elements of the kernels');
        assert.equal(removed, 80);
      }
      for (const at of [0, 1, 2, 3, 5, 8, 11])
        assert.deepEqual((await run([tried], CUTS[1] ?? [], at)).bits, one.bits, `resumed at ${at}`);
    });
  }

  it('keeps no value of what is dead, but of latent weights until the mask is final', async () => {
    const pruned = await run([rule()], [0, SPACE.size]);
    assert.equal(pruned.snapshots[0]?.weights.length, SPACE.size - 80);
    const through = await run([rule({ straightThrough: true })], [0, SPACE.size]);
    assert.equal(through.snapshots[0]?.weights.length, SPACE.size - 80);
  });

  it('gives what is grown zero weight and fresh slots', async () => {
    const grown = await run(
      [rule({ schedule: steady, regrowth: { kind: 'rigl', fraction: 0.5, initial: 'random' } })],
      [0, SPACE.size],
    );
    assert.ok(grown.reports.slice(1).some((report) => (report.grown ?? 0) > 0));
    assert.deepEqual([...new Set(grown.dead)], [80]);
  });

  it('decays dead latent weights where asked to, and with the same bits whatever the cuts', async () => {
    // Ends beyond the run, so that latent weights are still there to be seen.
    const through = rule({ straightThrough: true, schedule: { ...rising, endStep: 20 } });
    const decayed = await Promise.all(CUTS.map((cuts) => run([through], cuts, undefined, undefined, { latent: 0.5 })));
    assert.deepEqual(decayed[1]?.bits, decayed[0]?.bits);
    assert.deepEqual(decayed[2]?.bits, decayed[0]?.bits);
    assert.notDeepEqual(decayed[0]?.bits, (await run([through], CUTS[0] ?? [])).bits);
  });

  it('comes back dense in every dense phase of a cyclic schedule', async () => {
    const cyclic = RULES['cyclic'] ?? assert.fail();
    assert.deepEqual((await run([cyclic], [0, SPACE.size])).dead, [0, 80, 80, 0, 0, 80, 80, 0, 0, 80, 80, 80]);
  });

  it('kills a neuron with its bias and what the next layer makes of it', async () => {
    const neurons = await run([rule({ granularity: { neuron: { norm: 2 } } })], [0, SPACE.size]);
    const mask = neurons.snapshots[0]?.mask ?? assert.fail();
    const deadUnits = [0, 1, 2, 3, 4, 5, 6, 7].filter((unit) => !getBit(mask, 128 + unit));
    assert.equal(deadUnits.length, 4);
    for (let unit = 0; unit < 8; unit++) {
      const isDead = deadUnits.includes(unit);
      for (let row = 0; row < 16; row++) assert.equal(getBit(mask, row * 8 + unit), !isDead);
      for (let column = 0; column < 4; column++) assert.equal(getBit(mask, 136 + unit * 4 + column), !isDead);
    }
  });
});
