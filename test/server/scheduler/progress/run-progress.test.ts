import assert from 'node:assert/strict';
import type { Manifest } from '../../../../shared/checkpoint/manifest.ts';
import { ParameterSpace } from '../../../../shared/layout/parameter-space.ts';
import type { StepMetrics } from '../../../../shared/telemetry/run-status.ts';
import type { CommittedUpdate } from '../../../../server/scheduler/pruning-controller.ts';
import { RunProgress } from '../../../../server/scheduler/progress/run-progress.ts';
import type { CompletedStep } from '../../../../server/scheduler/step-ledger.ts';
import { engineConfig } from '../../../fixtures/config.ts';

const config = engineConfig({
  sparsity: [
    {
      match: '*/kernel',
      schedule: {
        kind: 'polynomial',
        initialSparsity: 0.1,
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
    },
  ],
});
const space = ParameterSpace.of([
  { name: 'dense_1/kernel', shape: [10, 10], layerKind: 'Dense', prunable: true },
  { name: 'dense_1/bias', shape: [10], layerKind: 'Dense', prunable: false },
]);

function make(restored: Manifest | null = null): { progress: RunProgress; records: StepMetrics[] } {
  const records: StepMetrics[] = [];
  const progress = new RunProgress({
    runId: 'mine',
    runDirectory: '/runs/mine',
    config,
    address: '127.0.0.1:1',
    onMetrics: (more) => records.push(...more),
    onChange: () => undefined,
  });
  progress.begin(1, restored);
  progress.setModel(space);
  return { progress, records };
}

const step = (number: number): CompletedStep => ({
  step: number,
  loss: 1 / number,
  seconds: 0.01,
  bytesPushed: 100 + number,
  bytesPulled: 200,
  bytesMasks: 0,
  sliceWorkers: [0],
  sliceMilliseconds: [],
});
const commit = (at: number, maskEpoch: number, sparsity: number): CommittedUpdate =>
  ({ step: at, maskEpoch, sparsity }) as CommittedUpdate;
const manifest = (clock: number): Manifest =>
  ({ clock, generation: 1, sparsity: 0.3, maskEpoch: 2, testAccuracy: 0.9, writtenAt: 'then' }) as Manifest;

describe('RunProgress', () => {
  it('tells step, target and sparsity of one and the same step, whatever is heard first', () => {
    const { progress, records } = make();
    const told = (): readonly number[] => {
      const { step: at, targetSparsity, sparsity, maskEpoch } = progress.status('RUNNING', [], null);
      return [at, targetSparsity, sparsity, maskEpoch];
    };
    progress.stepCompleted(step(1), false);
    assert.deepEqual(told(), [1, 0, 0, 0]);
    // The commit of step 2 is known before its last step record.
    progress.maskCommitted(commit(2, 1, 0.1));
    assert.deepEqual(told(), [1, 0, 0, 0]);
    progress.stepCompleted(step(2), true);
    assert.deepEqual(told(), [2, 0.1, 0.1, 1]);
    // And the other way round.
    progress.stepCompleted(step(3), true);
    assert.deepEqual(told(), [2, 0.1, 0.1, 1]);
    progress.maskCommitted(commit(3, 2, 0.3));
    assert.deepEqual(told(), [3, 0.3, 0.3, 2]);
    assert.deepEqual(
      records.map(({ step: at, sparsity, maskEpoch }) => [at, sparsity, maskEpoch]),
      [
        [1, 0, 0],
        [2, 0.1, 1],
        [3, 0.3, 2],
      ],
    );
    assert.deepEqual([progress.sparsityOf(1), progress.sparsityOf(2)], [0.1, 0.3]);
  });

  it('takes a mask that is cut before the first step at once', () => {
    const { progress } = make();
    progress.maskCommitted(commit(0, 1, 0.25));
    assert.equal(progress.status('RUNNING', [], null).sparsity, 0.25);
  });

  it('gives the result the step of its accuracy, the loss, its newest checkpoint and the bytes of its last step', () => {
    const { progress } = make();
    const result = () => progress.result('STOPPED', [], null, null);
    assert.deepEqual(
      [result().evaluatedAt, result().testLoss, result().checkpoint, result().bytesPerStep],
      [null, null, null, null],
    );
    progress.stepCompleted(step(1), false);
    progress.evaluated({ clock: 1, accuracy: 0.75, loss: 0.5 });
    progress.checkpointed(manifest(1));
    const { evaluatedAt, testLoss, checkpoint, bytesPerStep } = result();
    assert.deepEqual(
      [evaluatedAt, testLoss, checkpoint, bytesPerStep],
      [1, 0.5, '/runs/mine/checkpoints/step-00000001-g1', 301],
    );
  });

  it('counts what crossed the sockets of servers that died, also where another scheduler goes on', () => {
    const socket = (written: number) => ({ read: 0, written });
    const control = (of: RunProgress) => of.result('STOPPED', [], null, null).bytes.control;
    const { progress } = make();
    progress.setSocketBytes(0, socket(500));
    progress.setSocketBytes(1, socket(300));
    progress.setSocketBytes(0, socket(600));
    assert.equal(control(progress), 900);
    // Server 0 was started again.
    progress.setSocketBytes(0, socket(50));
    progress.setSocketBytes(0, socket(70));
    assert.equal(control(progress), 970);
    const next = make().progress;
    next.takenOver(1, null, progress.status('RUNNING', [], null), []);
    next.setSocketBytes(1, socket(310));
    next.setSocketBytes(0, socket(80));
    assert.equal(control(next), 990);
  });

  it('begins with what the checkpoint tells: an accuracy without its loss', () => {
    const { progress } = make(manifest(3));
    const { evaluatedAt, testAccuracy, testLoss, checkpoint, step: at } = progress.result('STOPPED', [], null, null);
    assert.deepEqual([at, evaluatedAt, testAccuracy, testLoss], [3, 3, 0.9, null]);
    assert.equal(checkpoint, '/runs/mine/checkpoints/step-00000003-g1');
    assert.deepEqual(progress.status('RUNNING', [], null).lastCheckpoint, { step: 3, at: 'then' });
  });
});
