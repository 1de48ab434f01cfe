import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeExit, type LaunchPlan } from '../../../deploy/launchers/launcher.ts';
import { findListening } from '../../../deploy/launchers/listening.ts';
import { createLocalLauncher } from '../../../deploy/launchers/local.ts';
import type { SuperviseDeadlines } from '../../../deploy/launchers/role-host.ts';
import { WhittleError } from '../../../shared/errors.ts';

const fake = fileURLToPath(new URL('./fixtures/fake-role.mjs', import.meta.url));

describe('local launcher', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'whittle-local-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const never = new AbortController().signal;
  const plan = (change: Partial<LaunchPlan> = {}): LaunchPlan => ({
    runId: 'fake',
    runDirectory: folder,
    servers: 2,
    workers: 2,
    minWorkers: 2,
    standbys: 0,
    maxRestarts: 0,
    host: '127.0.0.1',
    port: 0,
    resume: null,
    ...change,
  });
  const behave = (behaviour: Record<string, unknown>): void =>
    writeFileSync(join(folder, 'fake.json'), JSON.stringify(behaviour));
  const launcher = (deadlines: Partial<SuperviseDeadlines> = {}) =>
    createLocalLauncher({
      entry: [fake],
      deadlines: { listening: 10_000, loss: 200, leaving: 5_000, terminate: 500, ...deadlines },
    });
  const argv = (name: string): string[] => JSON.parse(readFileSync(join(folder, `${name}.argv`), 'utf8')) as string[];
  const pids = (): number[] =>
    ['scheduler-0', 'server-0', 'server-1', 'worker-0', 'worker-1']
      .filter((name) => existsSync(join(folder, `${name}.pid`)))
      .map((name) => Number(readFileSync(join(folder, `${name}.pid`), 'utf8')));
  const assertAllGone = (): void => {
    for (const pid of pids()) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
  };
  const allUp = (): Promise<void> => appear(folder, ['server-0.up', 'server-1.up', 'worker-0.up', 'worker-1.up']);

  it('starts every role with the address of the scheduler and reaps all at the end', async () => {
    behave({});
    const run = await launcher().start(plan(), never);
    assert.equal(run.schedulerAddress, '127.0.0.1:1234');
    assert.equal(run.generation, 3);
    assert.deepEqual(
      run.processes.map(({ role, rank }) => `${role}[${rank}]`),
      ['scheduler[0]', 'server[0]', 'server[1]', 'worker[0]', 'worker[1]'],
    );
    await allUp();
    assert.equal(
      argv('worker-1').join(' '),
      `worker --host 127.0.0.1 --run-dir ${folder} --scheduler 127.0.0.1:1234 --rank 1`,
    );
    writeFileSync(join(folder, 'end'), '');
    const end = await run.ended;
    assert.deepEqual(end, { schedulerExit: { code: 0, signal: null }, loss: null });
    assert.equal(pids().length, 5);
    assertAllGone();
  });

  it('passes a checkpoint to resume from', async () => {
    behave({ scheduler: { early: true } });
    const run = await launcher().start(plan({ resume: { folder: null }, servers: 0, workers: 0 }), never);
    await run.ended;
    assert.deepEqual(argv('scheduler-0').slice(-4), ['--port', '0', '--resume', 'newest']);
  });

  it('names the role that was killed, ends the run and leaves nothing behind', async () => {
    behave({ 'worker-1': { kill: 'SIGKILL', print: 'about to die' } });
    const run = await launcher().start(plan(), never);
    const { loss, schedulerExit } = await run.ended;
    assert.deepEqual(loss, {
      role: 'worker',
      rank: 1,
      exit: { code: null, signal: 'SIGKILL' },
      output: ['about to die'],
      schedulerEnded: false,
    });
    assert.equal(schedulerExit.code, 143);
    assertAllGone();
  });

  it('leaves it to the scheduler to end the run after a role failed', async () => {
    behave({ scheduler: { exit: 1 }, 'server-0': { exit: 1, print: 'Error: boom\n    at here' } });
    const run = await launcher({ loss: 10_000 }).start(plan(), never);
    await gone(run.processes.find(({ role, rank }) => role === 'server' && rank === 0)?.pid);
    writeFileSync(join(folder, 'end'), '');
    const { loss, schedulerExit } = await run.ended;
    assert.equal(schedulerExit.code, 1);
    assert.equal(`${loss?.role}[${loss?.rank}]`, 'server[0]');
    assert.equal(loss?.schedulerEnded, true);
    assert.deepEqual(loss?.output, ['Error: boom', '    at here']);
    assertAllGone();
  });

  it('counts a role that left with code 0 while the run goes on as lost', async () => {
    behave({ 'worker-0': { exit: 0 } });
    const run = await launcher({ leave: 100 }).start(plan(), never);
    const { loss } = await run.ended;
    assert.deepEqual([loss?.role, loss?.rank, loss?.exit.code], ['worker', 0, 0]);
    assertAllGone();
  });

  it('ends the members when the scheduler is killed', async () => {
    behave({ scheduler: { kill: 'SIGKILL' } });
    const run = await launcher().start(plan(), never);
    await allUp();
    writeFileSync(join(folder, 'end'), '');
    const { loss } = await run.ended;
    assert.equal(loss?.role, 'scheduler');
    assert.equal(loss?.exit.signal, 'SIGKILL');
    assert.deepEqual(loss.output, ['noise'], 'what is for launchers is not shown');
    assertAllGone();
  });

  it('kills what does not leave after the end', async () => {
    behave({ server: { stubborn: true } });
    const run = await launcher({ leaving: 50, terminate: 50 }).start(plan(), never);
    await allUp();
    writeFileSync(join(folder, 'end'), '');
    assert.equal((await run.ended).loss, null);
    assertAllGone();
  });

  it('says what the scheduler printed when it ends before it listens', async () => {
    behave({ scheduler: { early: true, exit: 1, print: 'Error: port taken' } });
    await assert.rejects(launcher().start(plan(), never), (error: unknown) => {
      assert.ok(error instanceof WhittleError);
      assert.equal(error.code, 'ROLE_LOST');
      assert.match(
        error.message,
        /scheduler\[0\] exited with code 1 before it accepted members; its last output:\n {4}Error: port taken/,
      );
      return true;
    });
    assertAllGone();
  });

  it('gives up on a scheduler that never listens', async () => {
    behave({ scheduler: { listen: false, stubborn: true } });
    await assert.rejects(
      launcher({ listening: 300, terminate: 50 }).start(plan(), never),
      /\[DEADLINE\] waited 0.3 s for scheduler\[0\]/,
    );
    assertAllGone();
  });

  it('ends everything when interrupted while it starts', async () => {
    behave({ scheduler: { listen: false } });
    const controller = new AbortController();
    const started = launcher().start(plan(), controller.signal);
    await appear(folder, ['scheduler-0.pid']);
    controller.abort();
    await assert.rejects(started, /\[INTERRUPTED\]/);
    assertAllGone();
  });

  it('kills all at once on kill()', async () => {
    behave({ scheduler: { stubborn: true }, server: { stubborn: true }, worker: { stubborn: true } });
    const run = await launcher().start(plan(), never);
    await allUp();
    run.kill();
    const { schedulerExit } = await run.ended;
    assert.equal(schedulerExit.signal, 'SIGKILL');
    assertAllGone();
  });

  it('takes no listener or handle of the process with it', async () => {
    const before = process.listenerCount('exit');
    behave({});
    const run = await launcher().start(plan(), never);
    assert.equal(process.listenerCount('exit'), before + 1);
    writeFileSync(join(folder, 'end'), '');
    await run.ended;
    assert.equal(process.listenerCount('exit'), before);
  });
});

describe('findListening', () => {
  it('wants a whole line', () => {
    const line = '{"event":"listening","address":"127.0.0.1:7","generation":2}';
    assert.equal(findListening(line), null);
    assert.deepEqual(findListening(`x\n{"event":"other"}\n{broken\n${line}\n`), {
      address: '127.0.0.1:7',
      generation: 2,
    });
  });
});

describe('describeExit', () => {
  it('names signal or code', () => {
    assert.equal(describeExit({ code: 3, signal: null }), 'exited with code 3');
    assert.equal(describeExit({ code: null, signal: 'SIGSEGV' }), 'was killed by SIGSEGV');
    assert.match(describeExit({ code: null, signal: 'SIGKILL' }), /for want of memory/);
  });
});

/** Resolves when all files exist in the folder. */
async function appear(folder: string, names: readonly string[]): Promise<void> {
  const missing = (): boolean => names.some((name) => !existsSync(join(folder, name)));
  await new Promise<void>((resolve) => {
    const watcher = watch(folder, check);
    function check(): void {
      if (missing()) return;
      watcher.close();
      resolve();
    }
    check();
  });
}

/** Resolves when the launcher, which is this process, has reaped the process. */
async function gone(pid: number | undefined): Promise<void> {
  assert.ok(pid !== undefined);
  for (;;) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
