import assert from 'node:assert/strict';
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';
import { executeRun, exitCodeOf, type RunHooks } from '../../../deploy/launchers/execute.ts';
import type { LaunchedRun, Launcher, LaunchPlan, RunEnd } from '../../../deploy/launchers/launcher.ts';
import type { StatusReply } from '../../../protos/generated/whittle/StatusReply.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { Scheduler } from '../../../shared/rpc/proto.ts';
import { type RunningServer, service, startServer, unaryHandler } from '../../../shared/rpc/server.ts';
import type { RunResult, RunStatus } from '../../../shared/telemetry/run-status.ts';
import { resultOf, statusOf } from './fixtures/statuses.ts';

const ended: RunEnd = { schedulerExit: { code: 0, signal: null }, loss: null };

describe('executeRun', () => {
  let folder: string;
  let plan: LaunchPlan;
  let server: RunningServer;
  let watching: Promise<ServerWritableStream<unknown, StatusReply>>;
  let stops: string[];
  let onStop: () => void;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'whittle-execute-'));
    plan = {
      runId: 'mine',
      runDirectory: folder,
      servers: 1,
      workers: 1,
      minWorkers: 1,
      standbys: 0,
      maxRestarts: 0,
      host: '127.0.0.1',
      port: 0,
      resume: null,
    };
    stops = [];
    let watched: (stream: ServerWritableStream<unknown, StatusReply>) => void;
    watching = new Promise((resolve) => (watched = resolve));
    server = await startServer({
      host: '127.0.0.1',
      port: 0,
      services: [
        service(Scheduler.service, {
          Session: (stream: ServerDuplexStream<unknown, unknown>) => stream.end(),
          Status: unaryHandler(() => ({ json: '{}' })),
          Watch: (stream: ServerWritableStream<unknown, StatusReply>) => watched(stream),
          Stop: unaryHandler((request: { reason: string }) => {
            stops.push(request.reason);
            onStop();
            return {};
          }),
        }),
      ],
    });
  });
  afterEach(async () => {
    await server.stop(0);
    rmSync(folder, { recursive: true, force: true });
  });

  /** A launcher whose run ends when `end` is called; `killed` counts. */
  const fakeLauncher = (): { launcher: Launcher; end: (how?: RunEnd) => void; killed: () => number } => {
    let kills = 0;
    let end: (how?: RunEnd) => void = () => undefined;
    const over = new Promise<RunEnd>((resolve) => (end = (how = ended) => resolve(how)));
    const run: LaunchedRun = {
      schedulerAddress: server.address,
      generation: 1,
      processes: [{ role: 'scheduler', rank: 0, pid: 1 }],
      ended: over,
      kill: () => {
        kills++;
        end({ schedulerExit: { code: null, signal: 'SIGKILL' }, loss: null });
      },
    };
    return { launcher: { name: 'fake', start: () => Promise.resolve(run) }, end, killed: () => kills };
  };
  const write = (name: string, value: object): void => writeFileSync(join(folder, name), JSON.stringify(value));
  const read = (name: string): unknown => JSON.parse(readFileSync(join(folder, name), 'utf8'));

  it("hands on statuses and steps and resolves to the scheduler's result", async () => {
    const { launcher, end } = fakeLauncher();
    write('result.json', resultOf({ step: 1 }));
    const seen: number[] = [];
    const steps: number[] = [];
    const running = executeRun(launcher, plan, {
      onStatus: ({ step }) => {
        seen.push(step);
        if (step < 2) return;
        assert.equal(existsSync(join(folder, 'result.json')), false, 'the old result is gone');
        appendFileSync(join(folder, 'metrics.jsonl'), '{"step":2}\n');
        write('result.json', resultOf());
        end();
      },
      onStep: ({ step }) => steps.push(step),
    });
    appendFileSync(join(folder, 'metrics.jsonl'), '{"step":1}\n');
    const stream = await watching;
    for (const step of [1, 2]) stream.write({ json: JSON.stringify(statusOf({ step })) });
    assert.deepEqual(await running, resultOf());
    assert.deepEqual(seen, [1, 2]);
    assert.deepEqual(steps, [1, 2]);
  });

  it('follows status.json when the scheduler cannot be watched', async () => {
    const { launcher, end } = fakeLauncher();
    write('status.json', statusOf({ step: 7 }));
    const running = executeRun(launcher, plan, {
      onStatus: ({ step }) => {
        write('result.json', resultOf({ step }));
        end();
      },
    });
    (await watching).emit('error', { code: 14, details: 'gone' });
    assert.equal((await running).step, 7);
  });

  it('asks the scheduler to stop on abort', async () => {
    const { launcher, end, killed } = fakeLauncher();
    onStop = () => {
      write('result.json', resultOf({ state: 'STOPPED' }));
      end();
    };
    const controller = new AbortController();
    const running = executeRun(launcher, plan, { signal: controller.signal, onStarted: () => controller.abort() });
    const result = await running;
    assert.deepEqual(stops, ['interrupted']);
    assert.equal(result.state, 'STOPPED');
    assert.equal(killed(), 0);
  });

  it('kills the run where the scheduler cannot be asked', async () => {
    const { launcher, killed } = fakeLauncher();
    const controller = new AbortController();
    await server.stop(0);
    const running = executeRun(launcher, plan, { signal: controller.signal, onStarted: () => controller.abort() });
    assert.equal((await running).state, 'STOPPED');
    assert.equal(killed(), 1);
  });

  it('kills the run on the second signal, though the scheduler has heard the first', async () => {
    const { launcher, killed } = fakeLauncher();
    const [first, second] = [new AbortController(), new AbortController()];
    onStop = () => second.abort();
    const running = executeRun(launcher, plan, {
      signal: first.signal,
      killSignal: second.signal,
      onStarted: () => first.abort(),
    });
    const result = await running;
    assert.deepEqual([result.state, result.failure, killed()], ['STOPPED', null, 1]);
  });

  it('makes a result where the scheduler wrote none, with the cause and its output', async () => {
    const { launcher, end } = fakeLauncher();
    write('status.json', statusOf({ step: 5, sparsity: 0.5 }));
    const lost: RunEnd = {
      schedulerExit: { code: null, signal: 'SIGTERM' },
      loss: {
        role: 'worker',
        rank: 1,
        exit: { code: 134, signal: null },
        output: ['FATAL ERROR', 'heap out of memory'],
        schedulerEnded: false,
      },
    };
    const result = await executeRun(launcher, plan, { onStarted: () => end(lost) });
    assert.equal(result.state, 'FAILED');
    assert.equal(result.step, 5);
    assert.equal(result.sparsity, 0.5);
    assert.deepEqual(result.failure, {
      role: 'worker',
      rank: 1,
      code: 'ROLE_LOST',
      message: 'worker[1] exited with code 134',
      stack: 'FATAL ERROR\nheap out of memory',
      step: 5,
    });
    assert.deepEqual(read('result.json'), JSON.parse(JSON.stringify(result)));
    assert.equal((read('status.json') as RunStatus).state, 'FAILED');
  });

  it('adds to a lost member how its process ended, and leaves an error of its own alone', async () => {
    const lost = { role: 'server', rank: 0, exit: { code: null, signal: 'SIGSEGV' }, output: ['boom'] } as const;
    const end: RunEnd = { schedulerExit: { code: 1, signal: null }, loss: { ...lost, schedulerEnded: true } };
    const failure = { role: 'server', rank: 0, message: 'connection ended', stack: 's', step: 3 } as const;
    const run = async (code: string): Promise<string[]> => {
      const { launcher, end: finish } = fakeLauncher();
      const result = await executeRun(launcher, plan, {
        onStarted: () => {
          write('result.json', resultOf({ state: 'FAILED', failure: { ...failure, code } }));
          finish(end);
        },
      });
      return [result.failure?.message ?? '', result.failure?.stack ?? ''];
    };
    assert.deepEqual(await run('ROLE_LOST'), ['server[0] was killed by SIGSEGV (connection ended)', 'boom']);
    assert.deepEqual(await run('NOT_FINITE'), ['connection ended', 's']);
  });

  it('ends the run and rejects when a callback throws', async () => {
    for (const hooks of [{ onStarted: fail }, { onStatus: fail }] satisfies RunHooks[]) {
      const { launcher, killed } = fakeLauncher();
      const running = executeRun(launcher, plan, hooks);
      if (hooks.onStatus !== undefined) (await watching).write({ json: JSON.stringify(statusOf()) });
      await assert.rejects(running, /from the callback/);
      assert.equal(killed(), 1);
    }
    function fail(): void {
      throw new Error('from the callback');
    }
  });

  it('rejects with the error of the start, or resolves to the failure that the scheduler wrote', async () => {
    const start = (before: () => void): Launcher => ({
      name: 'fake',
      start: () => {
        before();
        return Promise.reject(new WhittleError('ROLE_LOST', 'no scheduler'));
      },
    });
    await assert.rejects(
      executeRun(
        start(() => undefined),
        plan,
      ),
      /no scheduler/,
    );
    const told = JSON.parse(readFileSync(join(folder, 'result.json'), 'utf8')) as RunResult;
    assert.deepEqual([told.state, told.checkpoint, told.step], ['FAILED', null, 0]);
    assert.deepEqual([told.failure?.code, told.failure?.message], ['ROLE_LOST', 'no scheduler']);
    // What a run that is resumed left before is not touched.
    rmSync(join(folder, 'result.json'));
    const resumed = { ...plan, resume: { folder: join(folder, 'checkpoints', 'step-00000010-g1') } };
    await assert.rejects(
      executeRun(
        start(() => undefined),
        resumed,
      ),
      /no scheduler/,
    );
    assert.equal(existsSync(join(folder, 'result.json')), false);
    const failed = resultOf({ state: 'FAILED' });
    assert.deepEqual(
      await executeRun(
        start(() => write('result.json', failed)),
        plan,
      ),
      failed,
    );
  });
});

describe('exitCodeOf', () => {
  it('is 0 finished, 1 failed, 130 stopped', () => {
    assert.deepEqual(
      (['SUCCEEDED', 'FAILED', 'STOPPED'] as const).map((state) => exitCodeOf(resultOf({ state }))),
      [0, 1, 130],
    );
  });
});
