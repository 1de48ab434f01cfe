import assert from 'node:assert/strict';
import { ageInSeconds, formatBytes, formatDuration, formatPercent } from '../../../deploy/cli/quantities.ts';
import { formatEnding, formatFailure, formatLayers, formatReport } from '../../../deploy/cli/report.ts';
import { formatStatus } from '../../../deploy/cli/status-view.ts';
import type { RunFailure, RunResult, RunStatus } from '../../../shared/telemetry/run-status.ts';

const failure: RunFailure = {
  role: 'worker',
  rank: 1,
  code: 'DATA',
  message: 'no example 7',
  stack: 'Error: no example 7\n    at batch (data.ts:3)',
  step: 12,
};

const result: RunResult = {
  runId: 'mine',
  runDirectory: '/runs/mine',
  state: 'SUCCEEDED',
  step: 100,
  totalSteps: 100,
  resumedFrom: 40,
  stepsComputed: 60,
  slicesByWorker: { 0: 30, 1: 1030 },
  loss: 0.123456,
  testAccuracy: 0.98175,
  sparsity: 0.75,
  maskEpoch: 5,
  maskDigest: 'aa',
  weightsDigest: 'bb',
  stateDigest: null,
  wallSeconds: 125,
  examplesPerSecond: 1234.5,
  bytes: { pushed: 1_500_000, pulled: 2_000, masks: 10, control: 0 },
  layers: [
    { name: 'dense_1/kernel', size: 1000, survivors: 250, zeroSurvivors: 1 },
    { name: 'dense_1/bias', size: 10, survivors: 10, zeroSurvivors: 0 },
  ],
  failure: null,
};

const context = {
  prunable: 1000,
  scheduledRemoved: 750,
  denseBytesPerStep: 8080,
  bytesPerStep: 2080,
  checkpoint: '/c',
};

describe('the report of a run', () => {
  it('shows layers, totals and every figure once', () => {
    assert.equal(
      formatReport(result, context),
      [
        '',
        'Run mine finished at step 100 of 100',
        '',
        'PARAMETER         SIZE   SURVIVORS    DENSITY   ZERO SURVIVORS',
        'dense_1/kernel   1,000         250    25.00 %                1',
        'dense_1/bias        10          10   100.00 %                0',
        'total            1,010         260    25.74 %                1',
        '',
        'removed          750 of 1,000 prunable elements, exactly as scheduled',
        'sparsity         75.00 %',
        'test accuracy    98.17 %',
        'training loss    0.1235',
        'wall time        2 min 05 s, 1,235 examples/s, 60 steps computed',
        'resumed from     step 40',
        'slices           worker[0] 30, worker[1] 1,030',
        'bytes            1.50 MB pushed, 2.00 kB pulled, 10 B masks, 0 B control',
        'bytes a step     2.08 kB now, 8.08 kB dense (3.88 times less)',
        'weights digest   bb',
        'mask digest      aa',
        'checkpoint       /c',
        'run directory    /runs/mine',
      ].join('\n'),
    );
  });

  it('says where the count is not the scheduled one', () => {
    assert.match(
      formatReport(result, { ...context, scheduledRemoved: 751 }),
      /750 of 1,000 prunable elements, scheduled 751$/m,
    );
  });

  it('leaves out what is not known', () => {
    const bare = { ...result, layers: [], loss: null, testAccuracy: null, resumedFrom: null, maskDigest: null };
    const text = formatReport(bare, null);
    for (const absent of ['PARAMETER', 'removed', 'accuracy', 'loss', 'resumed', 'mask digest', 'checkpoint', 'null']) {
      assert.ok(!text.includes(absent), absent);
    }
  });

  it('a run that failed shows the role, its error once, its stack, and how to go on', () => {
    assert.equal(formatEnding(result), '');
    assert.equal(
      formatEnding({ ...result, state: 'FAILED', failure }),
      [
        'worker[1] failed at step 12: [DATA] no example 7',
        '    at batch (data.ts:3)',
        'continue from its last checkpoint with: whittle resume /runs/mine',
        'its logs: whittle logs /runs/mine',
      ].join('\n'),
    );
    assert.equal(
      formatFailure({ ...failure, message: '[DATA] no example 7', stack: '' }),
      'worker[1] failed at step 12: [DATA] no example 7',
    );
  });

  it('an empty parameter has density 100 %', () => {
    assert.match(formatLayers([{ name: 'a', size: 0, survivors: 0, zeroSurvivors: 0 }]), /^a +0 +0 +100\.00 % +0$/m);
  });
});

describe('the status of a run', () => {
  const status: RunStatus = {
    runId: 'mine',
    runDirectory: '/runs/mine',
    state: 'RUNNING',
    activity: 'training',
    generation: 2,
    step: 30,
    totalSteps: 60,
    loss: 0.5,
    testAccuracy: 0.75,
    evaluatedAt: 20,
    testLoss: 0.6,
    learningRate: 0.1,
    targetSparsity: 0.8,
    sparsity: 0.7995,
    maskEpoch: 3,
    examplesPerSecond: 1000,
    bytesPerStep: 1500,
    secondsLeft: 90,
    lastCheckpoint: { step: 20, at: '2026-01-01T00:00:00.000Z' },
    members: [
      {
        role: 'worker',
        rank: 0,
        address: '',
        pid: 7,
        host: 'here',
        clock: 30,
        secondsSinceHeartbeat: 0.5,
        slices: [0, 2],
        rssBytes: 2e8,
      },
    ],
    scheduler: { address: '127.0.0.1:9', pid: 6, host: 'here' },
    startedAt: '2026-01-01T00:00:00.000Z',
    updatedAt: '2026-01-01T00:00:00.000Z',
    failure: null,
  };
  const now = Date.parse('2026-01-01T00:01:05.000Z');

  it('shows progress, age of the checkpoint and members while it runs', () => {
    const text = formatStatus(status, now);
    for (const line of [
      'state             RUNNING, training',
      'step              30 of 60 (50 %)',
      'test accuracy     75.00 % at step 20',
      'sparsity          79.95 %, target 80.00 %, mask 3',
      'speed             1000 examples/s, 1.50 kB a step',
      'time left         1 min 30 s',
      'last checkpoint   step 20, 1 min 05 s ago',
      'worker[0]   -           7   here      30   0.5 s ago   200 MB   0, 2',
    ]) {
      assert.ok(text.split('\n').includes(line), `${line}\nis not in\n${text}`);
    }
  });

  it('shows no members and no time left once it has ended, but the failure', () => {
    const text = formatStatus({ ...status, state: 'FAILED', failure }, now);
    assert.doesNotMatch(text, /MEMBER|time left/);
    assert.match(text, /^state +FAILED$/m);
    assert.match(text, /worker\[1\] failed at step 12: \[DATA\] no example 7/);
  });
});

describe('quantities', () => {
  it('bytes: three digits, and never 1000 of a unit', () => {
    const cases = [0, 999, 999.6, 1000, 9_994, 9_996, 99_949, 99_951, 999_499, 999_501, 1e18].map(formatBytes);
    assert.deepEqual(cases, [
      '0 B',
      '999 B',
      '1.00 kB',
      '1.00 kB',
      '9.99 kB',
      '10.0 kB',
      '99.9 kB',
      '100 kB',
      '999 kB',
      '1.00 MB',
      '1000 PB',
    ]);
  });

  it('durations: never 60 of a unit', () => {
    const cases = [-1, 0.04, 9.94, 9.96, 59.4, 59.6, 3599.6, 86_399.6, 90_000].map(formatDuration);
    assert.deepEqual(cases, [
      '0.0 s',
      '0.0 s',
      '9.9 s',
      '10 s',
      '59 s',
      '1 min 00 s',
      '1 h 00 min',
      '1 d 00 h',
      '1 d 01 h',
    ]);
  });

  it('percent: 0 and 100 only for what is exactly so', () => {
    assert.deepEqual(
      [0, 1e-9, 0.5, 1 - 1e-9, 1].map((each) => formatPercent(each)),
      ['0.00 %', '<0.01 %', '50.00 %', '>99.99 %', '100.00 %'],
    );
  });

  it('ages: none for no time, none below zero', () => {
    assert.equal(ageInSeconds('never', 0), null);
    assert.equal(ageInSeconds('1970-01-01T00:00:05.000Z', 7000), 2);
    assert.equal(ageInSeconds('1970-01-01T00:00:05.000Z', 0), 0);
  });
});
