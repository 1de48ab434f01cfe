import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { spaceSize } from '../../shared/checkpoint/manifest-file.ts';
import type { StepMetrics } from '../../shared/telemetry/run-status.ts';
import {
  assertQuiet,
  digestsOf,
  finish,
  FIXTURES,
  killRun,
  latestCheckpoint,
  readMetrics,
  start,
  untilStep,
  whittle,
  withFolder,
  writeRunFile,
} from './support.ts';

const STEPS = 200;

const PLANS = {
  /** The first update costs accuracy, which is back before the last. */
  hold: {
    schedule: {
      kind: 'steps',
      steps: [
        { at: 40, sparsity: 0.97 },
        { at: 65, sparsity: 0.985 },
        { at: 85, sparsity: 0.99 },
      ],
    },
    evaluateEvery: 10,
    band: 0.02,
  },
  /** The last updates ask for too much. */
  restore: {
    schedule: { kind: 'linear', finalSparsity: 0.995, beginStep: 40, endStep: 90, frequency: 10 },
    evaluateEvery: 15,
    band: 0.03,
  },
};

/** A small network with batch normalisation on MNIST, pruned so hard that its accuracy falls. */
function runFile(action: 'hold' | 'restore'): Record<string, unknown> {
  const { schedule, evaluateEvery, band } = PLANS[action];
  return {
    name: 'guarded',
    model: join(FIXTURES, 'mnist-bn-model.ts'),
    data: { source: 'mnist', batchSize: 64 },
    cluster: { servers: 2, workers: 2, backend: 'wasm', slices: 2 },
    training: { steps: STEPS, optimizer: { kind: 'adam', learningRate: 0.003 }, evaluateEvery },
    sparsity: [{ schedule }],
    guard: { band, action },
    checkpoint: { every: 60, keep: 50 },
  };
}

const facts = (metrics: readonly StepMetrics[]): unknown[] =>
  metrics.map(({ step, loss, sparsity, maskEpoch, guard }) => [step, loss, sparsity, maskEpoch, guard]);

describe('a guard over pruning on MNIST', function () {
  this.timeout(300_000);

  for (const action of ['hold', 'restore'] as const) {
    it(`${action}s while accuracy is out of its band, goes on, and decides the same after kill -9 and resume`, () =>
      withFolder(async (folder) => {
        const path = await writeRunFile(folder, runFile(action));
        const never = await finish(['launch', path, '--runs-dir', folder, '--run-id', 'never']);
        const metrics = await readMetrics(never.runDirectory);
        const decisions = never.guard?.decisions ?? [];
        const kinds = decisions.map(({ kind }) => kind);
        assert.equal(kinds[0], action, JSON.stringify(decisions));
        assert.ok(kinds.includes('resume'), 'it goes on');
        assertHeld(metrics, decisions);
        const caughtUp = metrics.find(({ guard }) => guard?.action === 'caughtUp');
        assert.ok(caughtUp, 'what was held back is made up for');
        if (action === 'restore') await assertRestored(never.runDirectory, metrics);

        // Between the first decision and what comes of it.
        const decided = decisions[0]?.step ?? 0;
        const runDirectory = join(folder, 'killed');
        const { child, ended } = start(['launch', path, '--runs-dir', folder, '--run-id', 'killed', '--json']);
        await untilStep(runDirectory, decided, ended);
        await killRun(runDirectory, child);
        await ended;
        const { clock } = await latestCheckpoint(runDirectory);
        const resumed = await finish(['resume', runDirectory, '--servers', '3', '--workers', '1']);
        assert.equal(resumed.resumedFrom, clock);
        assert.deepEqual(digestsOf(resumed), digestsOf(never));
        assert.deepEqual(resumed.guard, never.guard);
        assert.deepEqual(facts(await readMetrics(runDirectory)), facts(metrics));
        await assertQuiet(runDirectory);

        const shown = await whittle(['inspect', runDirectory]);
        for (const { said } of decisions.slice(-12))
          assert.ok(shown.stdout.includes(said.slice('guard '.length)), said);
      }));
  }
});

/** Between a decision to hold and the one to go on sparsity does not rise. */
function assertHeld(metrics: readonly StepMetrics[], decisions: readonly { step: number; kind: string }[]): void {
  decisions.forEach(({ step, kind }, i) => {
    if (kind === 'resume') return;
    const until = decisions[i + 1]?.step ?? STEPS;
    const held = metrics.filter((each) => each.step >= step && each.step <= until).map(({ sparsity }) => sparsity);
    held.forEach((sparsity, k) => assert.ok(sparsity <= (held[k - 1] ?? 1), `sparsity rises after step ${step}`));
  });
}

/** Where an update was put back, weights, slots, mask and state are those of its checkpoint, in a new mask epoch. */
async function assertRestored(runDirectory: string, metrics: readonly StepMetrics[]): Promise<void> {
  const store = new CheckpointStore(runDirectory);
  const at = async (clock: number): Promise<Manifest> => {
    const entry = (await store.list()).find((each) => each.clock === clock);
    assert.ok(entry, `the checkpoint of step ${clock}`);
    return store.read(entry.path);
  };
  const restored = metrics.filter(({ guard }) => guard?.action === 'restored');
  assert.ok(restored.length > 0);
  for (const { step, guard, maskEpoch, sparsity } of restored) {
    const [now, saved] = [await at(step), await at(guard?.to ?? 0)];
    const whole = (manifest: Manifest) => store.readRange(manifest, 0, spaceSize(manifest), { withState: true });
    assert.deepEqual(await whole(now), await whole(saved));
    assert.ok(now.maskEpoch === maskEpoch && maskEpoch > saved.maskEpoch);
    assert.equal(sparsity, saved.sparsity);
    assert.ok(sparsity < (metrics.find((each) => each.step === step - 1)?.sparsity ?? 0));
  }
}
