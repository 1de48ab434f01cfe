import assert from 'node:assert/strict';
import { formatBytes, formatCount, formatDuration, formatPercent } from '../../../deploy/cli/quantities.ts';
import { formatEnding, formatFailure, formatPlan, formatReport } from '../../../deploy/cli/report.ts';
import { reportContext } from '../../../deploy/cli/run-command.ts';
import { formatStatus } from '../../../deploy/cli/status-view.ts';
import type { RunPlan } from '../../../deploy/launchers/plan.ts';
import type { RunState, RunStatus } from '../../../shared/telemetry/run-status.ts';
import { resultOf, statusOf } from '../launchers/fixtures/statuses.ts';

describe('quantities', () => {
  it('bytes have three digits', () => {
    assert.deepEqual([0, 999, 1000, 9_994, 9_996, 99_940, 123_456, 999_499, 999_500, 4.27e6, 1e15].map(formatBytes), [
      '0 B',
      '999 B',
      '1.00 kB',
      '9.99 kB',
      '10.0 kB',
      '99.9 kB',
      '123 kB',
      '999 kB',
      '1.00 MB',
      '4.27 MB',
      '1.00 PB',
    ]);
  });
  it('durations have two units', () => {
    assert.deepEqual([0.04, 9.94, 9.96, 59.4, 59.6, 3599, 3600, 86_399, 93_600].map(formatDuration), [
      '0.0 s',
      '9.9 s',
      '10 s',
      '59 s',
      '1 min 00 s',
      '59 min 59 s',
      '1 h 00 min',
      '23 h 59 min',
      '1 d 02 h',
    ]);
  });
  it('percentages are 0 or 100 only where they are', () => {
    assert.deepEqual(
      [0, 0.00001, 0.5, 0.99999, 1].map((each) => formatPercent(each)),
      ['0.00 %', '<0.01 %', '50.00 %', '>99.99 %', '100.00 %'],
    );
  });
  it('counts have thousands', () => assert.equal(formatCount(266_610), '266,610'));
});

const plan: RunPlan = {
  runId: 'mine',
  runDirectory: '/runs/mine',
  launcher: 'local',
  name: 'mine',
  seed: 1,
  model: 'm',
  data: 'mnist',
  servers: 2,
  workers: { min: 2, max: 2 },
  backend: 'wasm',
  sliceExamples: [42, 43, 43],
  batchSize: 128,
  steps: 5616,
  epochs: 11.98,
  trainExamples: 60_000,
  testExamples: 10_000,
  evaluateEvery: 468,
  parameters: 1010,
  prunable: 1000,
  layers: [{ name: 'dense_1/kernel', shape: [100, 10], kind: 'Dense', size: 1000, rules: [0, 1] }],
  sparsity: Array.from({ length: 40 }, (_, i) => ({ step: i, targets: [0.1, 0.2], sparsity: 0.2, packed: 810 })),
  bytesPerStep: { dense: 20_000, final: 10_000 },
  checkpoint: { every: 500, keep: 3, folder: '/runs/mine/checkpoints' },
  notes: ['a note'],
};

describe('formatReport', () => {
  const context = {
    prunable: 1000,
    scheduledRemoved: 900,
    denseBytesPerStep: 16_160,
  };

  it('shows layers, counts, bytes, digests and places', () => {
    assert.equal(
      formatReport(resultOf({ evaluatedAt: 58 }), context),
      `
Run mine finished at step 60 of 60

PARAMETER         SIZE   SURVIVORS    DENSITY   ZERO SURVIVORS   DEAD UNITS   BYTES   CHURN SINCE 40
dense_1/kernel   1,000         100    10.00 %                2      1 of 10   400 B              -50
dense_1/bias        10          10   100.00 %               10            -    40 B                0
total            1,010         110    10.89 %               12                440 B               50

removed          900 of 1,000 prunable elements, exactly as scheduled
sparsity         90.00 % at step 60
all parameters   89.11 % sparse at step 60
test accuracy    97.85 % at step 58
test loss        0.0712 at step 58
training loss    0.5000
wall time        1 min 03 s, 1,235 examples/s, 60 steps computed
slices           worker[0] 60, worker[1] 60
bytes            1.00 MB pushed, 2.00 MB pulled, 3.00 kB masks, 0 B control
bytes a step     1.76 kB at step 60, 16.2 kB dense (9.18 times less)
weights digest   bb
mask digest      aa
state digest     cc
checkpoint       /runs/mine/checkpoints/step-00000060-g1
run directory    /runs/mine`,
    );
  });

  it('says so when the count is not that of the schedule', () => {
    const report = formatReport(resultOf(), { ...context, scheduledRemoved: 905 });
    assert.match(report, /^removed +900 of 1,000 prunable elements, scheduled 905$/m);
  });

  it('counts as removed what rules match, not the biases that died with their units', () => {
    const layers = resultOf().layers.map((layer) => (layer.prunable ? layer : { ...layer, survivors: 3 }));
    const report = formatReport(resultOf({ layers }), context);
    assert.match(report, /^removed +900 of 1,000 prunable elements, exactly as scheduled$/m);
  });

  it('gets by with a result that knows little', () => {
    const report = formatReport(
      resultOf({
        state: 'FAILED',
        layers: [],
        loss: null,
        testAccuracy: null,
        testLoss: null,
        maskDigest: null,
        slicesByWorker: {},
        bytes: { pushed: 1000, pulled: 2000, masks: null, control: null },
        bytesPerStep: null,
        checkpoint: null,
        resumedFrom: 7,
      }),
      context,
    );
    assert.match(report, /^Run mine failed at step 60 of 60$/m);
    assert.match(report, /^resumed from +step 7$/m);
    assert.match(report, /^bytes +1\.00 kB pushed, 2\.00 kB pulled since the resume$/m);
    assert.doesNotMatch(report, /PARAMETER|mask digest|accuracy|test loss|removed|a step|slices|checkpoint/);
  });

  it('counts what a checkpoint holds that is older than the last step against the schedule of its own step', () => {
    const checkpoint = '/runs/mine/checkpoints/step-00000040-g1';
    const result = resultOf({ state: 'FAILED', step: 55, checkpoint });
    const update = (step: number, packed: number) => ({ step, packed, sparsity: 0, targets: [] });
    const sparsity = [update(10, 800), update(40, 110), update(50, 60)];
    const planned = reportContext({ ...plan, sparsity }, result);
    const report = formatReport(result, planned);
    assert.match(report, /^The checkpoint of step 40:$/m);
    assert.match(report, /^removed +900 of 1,000 prunable elements at step 40, exactly as scheduled$/m);
    assert.match(report, /^sparsity +90\.00 % at step 55$/m);
  });

  it('says which numbers are of the time since the resume', () => {
    const report = formatReport(resultOf({ resumedFrom: 59, stepsComputed: 1 }), context);
    assert.match(report, /^wall time .*, 1 step computed since the resume$/m);
    assert.match(report, /^slices +worker\[0\] 60, worker\[1\] 60 since the resume$/m);
    assert.match(report, /^bytes .* since the resume$/m);
    assert.doesNotMatch(formatReport(resultOf(), context), /since/);
  });
});

describe('formatEnding', () => {
  const failure = { role: 'worker', rank: 1, code: 'NOT_FINITE', message: 'loss is NaN', step: 12 } as const;
  it("shows the role's error once, its stack, and how to go on", () => {
    const stack = 'WhittleError: [NOT_FINITE] loss is NaN\n    at here (file:1:2)';
    assert.equal(
      formatEnding(resultOf({ state: 'FAILED', failure: { ...failure, stack } })),
      'worker[1] failed at step 12: [NOT_FINITE] loss is NaN\n' +
        '    at here (file:1:2)\n' +
        'its last checkpoint is that of step 60: /runs/mine/checkpoints/step-00000060-g1\n' +
        'continue it with: npx --no-install whittle resume /runs/mine\n' +
        'its logs: npx --no-install whittle logs /runs/mine',
    );
  });
  it('has nothing to resume where there is no checkpoint', () => {
    assert.equal(
      formatEnding(resultOf({ state: 'STOPPED', checkpoint: null })),
      'no checkpoint was written; start over with: npx --no-install whittle launch /runs/mine/run.yaml\n' +
        'its logs: npx --no-install whittle logs /runs/mine',
    );
  });
  it('is empty when the run finished', () => assert.equal(formatEnding(resultOf()), ''));
  it('does not repeat the code', () => {
    assert.equal(
      formatFailure({ ...failure, message: '[NOT_FINITE] loss is NaN', stack: '' }),
      'worker[1] failed at step 12: [NOT_FINITE] loss is NaN',
    );
  });
});

describe('formatPlan', () => {
  it('tells what is quantized, and from when', () => {
    const quantization = {
      weights: { bits: 4, perChannel: false },
      activations: { bits: 8, decay: 0.99 },
      beginStep: 1406,
      match: 'dense_?/*',
    } as const;
    const said = 'quantization    dense_?/* int4 per tensor, activations int8, from step 1,407 on';
    assert.ok(
      formatPlan({ ...plan, quantization }, ['run.yaml'])
        .split('\n')
        .includes(said),
    );
    assert.ok(!formatPlan(plan, ['run.yaml']).includes('quantization'));
  });

  it('says what will run and where, and how to follow, stop and resume it', () => {
    const lines = formatPlan(plan, ['my run.yaml', '--set', 'seed=2']).split('\n');
    for (const line of [
      'model           m, 1,010 parameters, 1,000 of them prunable',
      'roles           1 scheduler, 2 servers, 2 workers; local, backend wasm',
      'steps           5,616 (11.98 epochs of 60,000 examples); evaluation every 468 steps',
      'batch           128 examples in 3 slices of 42 or 43',
      'bytes a step    20.0 kB dense, 10.0 kB at final sparsity (2.00 times less)',
      'checkpoints     every 500 steps, newest 3 kept',
      'stop            Ctrl-C, or npx --no-install whittle stop /runs/mine',
      'resume          npx --no-install whittle resume /runs/mine',
      'watch           npx --no-install whittle status /runs/mine --watch',
      'dense_1/kernel   [100, 10]   Dense   1,000   0, 1',
      "12 of 40 mask updates; all: npx --no-install whittle schedule 'my run.yaml' --set seed=2",
      'note: a note',
    ]) {
      assert.ok(lines.includes(line), `${line}\nis not in\n${lines.join('\n')}`);
    }
    const one = formatPlan({ ...plan, servers: 1, workers: { min: 1, max: 1 }, sliceExamples: [128] }, ['run.yaml']);
    assert.match(one, /^roles +1 scheduler, 1 server, 1 worker; local/m);
    assert.match(one, /^batch +128 examples in 1 slice of 128$/m);
    assert.ok(lines.some((line) => /^ +39 +10\.00 % +20\.00 % +20\.00 % +200$/.test(line)));
  });
});

describe('formatReport', () => {
  it('tells every recovery: where the run stood, where it went back to, and how long it paused', () => {
    const recoveries = [
      { cause: 'lost server[1]', step: 153, resumedFrom: 100, pauseSeconds: 5.2 },
      { cause: 'the scheduler was lost', step: 300, resumedFrom: null, pauseSeconds: 0 },
    ];
    const text = formatReport(resultOf({ recoveries }), null);
    assert.match(text, /^recovered +at step 153, went back to step 100, paused 5\.2 s: lost server\[1\]$/m);
    assert.match(text, /^recovered +at step 300, went on: the scheduler was lost$/m);
    assert.doesNotMatch(formatReport(resultOf(), null), /recovered/);
  });
});

describe('formatStatus', () => {
  it('shows progress, the age of the checkpoint and the members of a run that goes on', () => {
    const now = Date.parse('2026-08-01T12:01:05.000Z');
    const member = { address: '127.0.0.1:1', pid: 7, host: 'here', clock: 412, secondsSinceHeartbeat: 0.26 };
    const status = statusOf({
      lastCheckpoint: { step: 400, at: '2026-08-01T12:01:00.000Z' },
      secondsLeft: 90,
      members: [
        { ...member, role: 'server', rank: 0, slices: [], rssBytes: 1e8, stepMilliseconds: null },
        {
          ...member,
          role: 'worker',
          rank: 1,
          address: '',
          slices: [1, 2],
          rssBytes: 0,
          stepMilliseconds: { median: 4.21, p90: 5 },
        },
      ],
    });
    const text = formatStatus(status, now);
    assert.match(text, /^state +RUNNING, training$/m);
    assert.match(text, /^step +412 of 5616 \(7 %\)$/m);
    assert.match(text, /^last checkpoint +step 400, 5\.0 s ago$/m);
    assert.match(text, /^time left +1 min 30 s$/m);
    assert.match(text, /^server\[0\] +127\.0\.0\.1:1 +7 +here +412 +0\.3 s ago +100 MB +- +-$/m);
    assert.match(text, /^worker\[1\] +- +7 +here +412 +0\.3 s ago +- +4\.2 \/ 5\.0 ms +1, 2$/m);
  });

  it('shows the failure of a run that ended, and no members', () => {
    const failure = { role: 'server', rank: 0, code: 'DISK', message: 'full', stack: '', step: 3 } as const;
    const text = formatStatus(statusOf({ state: 'FAILED', activity: 'x', failure }), 0);
    assert.match(text, /^state +FAILED$/m);
    assert.match(text, /^server\[0\] failed at step 3: \[DISK\] full$/m);
    assert.doesNotMatch(text, /MEMBER/);
  });

  it('says how a run goes on that failed or was stopped, and no other', () => {
    const row = (state: RunState, lastCheckpoint: RunStatus['lastCheckpoint']) =>
      /^(?:resume|start over) .*$/m.exec(formatStatus(statusOf({ state, lastCheckpoint }), 0))?.[0];
    const checkpoint = { step: 3, at: '' };
    for (const state of ['FAILED', 'STOPPED'] as const) {
      assert.equal(row(state, checkpoint), 'resume            npx --no-install whittle resume /runs/mine');
      assert.equal(row(state, null), 'start over      npx --no-install whittle launch /runs/mine/run.yaml');
    }
    for (const state of ['PENDING', 'RUNNING', 'SUCCEEDED'] as const) assert.equal(row(state, checkpoint), undefined);
  });
});
