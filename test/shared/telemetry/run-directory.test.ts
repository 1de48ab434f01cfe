import assert from 'node:assert/strict';
import { appendFile, mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { acquireRunLock } from '../../../shared/coordination/lock.ts';
import { RunDirectory, newRunId } from '../../../shared/telemetry/run-directory.ts';
import type { RunResult, RunStatus, StepMetrics } from '../../../shared/telemetry/run-status.ts';

const metrics = (step: number): StepMetrics => ({
  step,
  loss: 1 / step,
  sparsity: 0,
  maskEpoch: 0,
  seconds: 0.01,
  bytesPushed: 10,
  bytesPulled: 20,
  workers: [0, 1],
});

const status: RunStatus = {
  runId: 'a',
  runDirectory: '/runs/a',
  state: 'RUNNING',
  activity: 'training',
  generation: 1,
  step: 5,
  totalSteps: 10,
  loss: 0.5,
  testAccuracy: null,
  evaluatedAt: null,
  testLoss: null,
  learningRate: 0.1,
  targetSparsity: 0,
  sparsity: 0,
  maskEpoch: 0,
  examplesPerSecond: 1,
  bytesPerStep: 1,
  secondsLeft: null,
  lastCheckpoint: null,
  members: [],
  scheduler: { address: '127.0.0.1:1', pid: 42, host: 'here' },
  startedAt: '',
  updatedAt: '',
  failure: null,
  totals: {
    resumedFrom: null,
    stepsComputed: 5,
    slicesByWorker: {},
    bytes: { pushed: 0, pulled: 0, masks: 0 },
    recoveries: [],
  },
};

describe('RunDirectory', () => {
  let runs = '';
  beforeEach(async () => (runs = await mkdtemp(join(tmpdir(), 'whittle-runs-'))));
  afterEach(() => rm(runs, { recursive: true }));

  it('is made once', async () => {
    const folder = join(runs, 'deep', 'runs');
    const run = await RunDirectory.create(folder, 'a', 'name: a\n');
    assert.deepEqual((await readdir(run.path)).sort(), ['checkpoints', 'logs', 'run.yaml']);
    assert.equal(run.logFile('worker', 1), join(folder, 'a', 'logs', 'worker-1.log'));
    await assert.rejects(RunDirectory.create(folder, 'a', ''), {
      code: 'RUN_EXISTS',
      message:
        /run a exists in .*runs; continue it with `.*whittle resume .*deep\/runs\/a`, or choose another --run-id/,
    });
    await assert.rejects(RunDirectory.requireFree(folder, 'a'), { code: 'RUN_EXISTS' });
    await RunDirectory.requireFree(folder, 'b');
    assert.deepEqual(await readdir(folder), ['a'], 'only looked');
    for (const id of ['', '..', '.a', 'a/b', 'a b', '-a', 'x'.repeat(200)]) {
      await assert.rejects(RunDirectory.create(folder, id, ''), { code: 'USAGE' });
      await assert.rejects(RunDirectory.requireFree(folder, id), { code: 'USAGE' });
    }
  });

  it('of a run that ended before its first checkpoint makes way for the next of that name, and is kept', async () => {
    const fresh = async (result: Partial<RunResult> | null): Promise<RunDirectory> => {
      await rm(join(runs, 'a'), { recursive: true, force: true });
      const run = await RunDirectory.create(runs, 'a', 'name: a\n');
      if (result !== null) await run.writeResult({ state: 'FAILED', checkpoint: null, ...result } as RunResult);
      return run;
    };
    const stays = async (why: string): Promise<void> => {
      assert.equal(await RunDirectory.setAside(runs, 'a'), null, why);
      await assert.rejects(RunDirectory.requireFree(runs, 'a'), { code: 'RUN_EXISTS' }, why);
    };
    assert.equal(await RunDirectory.setAside(runs, 'a'), null);
    await fresh(null);
    await stays('it may be starting');
    await fresh({ state: 'SUCCEEDED' });
    await stays('it has a result');
    await fresh({ checkpoint: join(runs, 'a', 'checkpoints', 'step-00000000-g1') });
    await stays('it can be resumed');
    const damaged = await fresh({});
    await mkdir(join(damaged.checkpointsFolder, 'step-00000000-g1'), { recursive: true });
    await writeFile(join(damaged.checkpointsFolder, 'step-00000000-g1', 'manifest.json'), '{');
    await stays('somebody may mend its checkpoint');
    const held = await fresh({});
    const lock = await acquireRunLock(held.path, { address: '127.0.0.1:1' });
    await stays('somebody holds it');
    await lock.release();

    await mkdir(join(runs, 'a.failed-1'));
    await RunDirectory.requireFree(runs, 'a');
    assert.equal(await RunDirectory.setAside(runs, 'a'), 'a.failed-2');
    await RunDirectory.create(runs, 'a', '');
    assert.equal((await new RunDirectory(join(runs, 'a.failed-2')).readResult())?.state, 'FAILED');
  });

  it('is found by id and path, with a guess where it is not', async () => {
    assert.deepEqual(await RunDirectory.list(join(runs, 'none')), []);
    await assert.rejects(RunDirectory.resolve(runs, 'a'), {
      code: 'RUN_UNKNOWN',
      message: /holds no runs; name another folder with --runs-dir$/,
    });
    const made = [];
    for (const id of ['lenet-1', 'lenet-2', 'conv']) made.push(await RunDirectory.create(runs, id, ''));
    await mkdir(join(runs, 'not-a-run'));
    await Promise.all(made.map((run, age) => utimes(run.runFile, 1000 + age, 1000 + age)));
    assert.deepEqual(
      (await RunDirectory.list(runs)).map(({ runId }) => runId),
      ['conv', 'lenet-2', 'lenet-1'],
    );
    assert.equal((await RunDirectory.resolve(runs, 'conv')).path, join(runs, 'conv'));
    assert.equal((await RunDirectory.resolve('elsewhere', join(runs, 'conv/'))).runId, 'conv');
    for (const [wrong, guess] of [
      ['lente-2', 'lenet-2'],
      [join(runs, 'cov'), 'conv'],
      ['not-a-run', null],
    ] as const) {
      await assert.rejects(RunDirectory.resolve(runs, wrong), {
        code: 'RUN_UNKNOWN',
        message:
          guess === null
            ? /no run not-a-run in \S+; `.*whittle list --runs-dir \S+` shows the 3 runs there are$/
            : new RegExp(`did you mean ${guess}\\?`),
      });
    }
  });

  it('makes ids that are unique, safe and sort by time', async () => {
    const at = new Date('2026-08-01T09:05:07.123Z');
    const id = newRunId('lenet 300/100 ☂', at);
    assert.match(id, /^lenet-300-100-20260801-090507-[0-9a-f]{4}$/);
    assert.notEqual(newRunId('x', at), newRunId('x', at));
    assert.ok(newRunId('x', at) < newRunId('x', new Date('2026-08-01T09:05:08Z')));
    for (const name of ['', '../..', '.hidden', '-x', 'n'.repeat(500)]) {
      assert.equal((await RunDirectory.create(runs, newRunId(name), '')).runId.length <= 128, true);
    }
  });

  it('keeps status and result, whole at any time', async () => {
    const run = await RunDirectory.create(runs, 'a', '');
    assert.equal(await run.readStatus(), null);
    assert.equal(await run.readResult(), null);
    await run.writeStatus(status);
    assert.deepEqual(await run.readStatus(), status);
    // A reader meets the old or the new one, never a part.
    const writes = Array.from({ length: 20 }, (_, step) => run.writeStatus({ ...status, step }));
    const seen = await Promise.all(Array.from({ length: 20 }, () => run.readStatus()));
    assert.ok(seen.every((read) => read?.runId === 'a'));
    await Promise.all(writes);
    const result = { runId: 'a', state: 'SUCCEEDED' } as RunResult;
    await run.writeResult(result);
    assert.deepEqual(await run.readResult(), result);
    assert.deepEqual(
      (await readdir(run.path)).filter((name) => name.endsWith('.tmp')),
      [],
    );
    await writeFile(run.resultFile, '{');
    await assert.rejects(run.readResult(), { code: 'DISK', message: /result\.json is damaged/ });
  });

  it('says that the scheduler is gone', async () => {
    const run = await RunDirectory.create(runs, 'a', '');
    assert.equal(await run.effectiveStatus(), null);
    await run.writeStatus(status);
    const lock = await acquireRunLock(run.path, { address: '127.0.0.1:1' });
    assert.equal((await run.effectiveStatus())?.state, 'RUNNING');
    await lock.release();
    const gone = await run.effectiveStatus();
    assert.deepEqual([gone?.state, gone?.activity, gone?.failure?.code], ['FAILED', 'scheduler gone', 'ROLE_LOST']);
    assert.match(gone!.failure!.message, /^scheduler gone: process 42 on here ended without a word$/);
    await run.writeStatus({ ...status, state: 'STOPPED' });
    assert.equal((await run.effectiveStatus())?.state, 'STOPPED');
  });

  it('lists logs', async () => {
    const run = await RunDirectory.create(runs, 'a', '');
    for (const [role, rank] of [
      ['worker', 10],
      ['worker', 2],
      ['server', 0],
      ['scheduler', 0],
    ] as const) {
      await writeFile(run.logFile(role, rank), '');
    }
    await writeFile(join(run.logsFolder, 'notes.txt'), '');
    const names = (await run.logFiles()).map(({ role, rank }) => `${role}-${rank}`);
    assert.deepEqual(names, ['scheduler-0', 'server-0', 'worker-2', 'worker-10']);
  });
});

describe('MetricsFile', () => {
  let runs = '';
  beforeEach(async () => (runs = await mkdtemp(join(tmpdir(), 'whittle-runs-'))));
  afterEach(() => rm(runs, { recursive: true }));

  it('appends in order and is cut back to a clock', async () => {
    const { metrics: file } = await RunDirectory.create(runs, 'a', '');
    assert.deepEqual(await file.read(), []);
    await file.truncate(0);
    const records = Array.from({ length: 9 }, (_, index) => metrics(index + 1));
    file.append(records.slice(0, 4));
    const first = file.flush();
    file.append(records.slice(4));
    await Promise.all([first, file.flush()]);
    assert.deepEqual(await file.read(), records);
    // What a crash in the middle of a write leaves.
    await appendFile(file.path, '{"step":10,"lo');
    assert.deepEqual(await file.read(), records);
    await file.truncate(6);
    file.append([metrics(7)]);
    await file.flush();
    assert.deepEqual(await file.read(), [...records.slice(0, 6), metrics(7)]);
  });

  it('reports a disk that fails at each flush, and writes all once it is back', async () => {
    const { metrics: file, path } = await RunDirectory.create(runs, 'a', '');
    await rm(path, { recursive: true });
    file.append([metrics(1)]);
    await assert.rejects(file.flush(), { code: 'DISK' });
    file.append([metrics(2)]);
    await assert.rejects(file.flush(), { code: 'DISK' });
    await mkdir(path);
    await file.flush();
    assert.deepEqual(await file.read(), [metrics(1), metrics(2)]);
  });
});
