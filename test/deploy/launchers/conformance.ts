import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';
import type { Launcher, LaunchPlan } from '../../../deploy/launchers/launcher.ts';
import type { SuperviseDeadlines } from '../../../deploy/launchers/role-host.ts';
import type { RoleExitedRequest__Output } from '../../../protos/generated/whittle/RoleExitedRequest.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { Scheduler } from '../../../shared/rpc/proto.ts';
import { type RunningServer, service, startServer, unaryHandler } from '../../../shared/rpc/server.ts';

/** A script that stands for Whittle's command line; see there for what `fake.json` may say. */
const FAKE_ROLE = fileURLToPath(new URL('./fixtures/fake-role.mjs', import.meta.url));

export interface LauncherUnderTest {
  readonly name: string;
  /** Prepared once. Throws, or gives why it cannot be tested here. */
  readonly prepare?: () => Promise<string | null>;
  readonly cleanUp?: () => Promise<void>;
  /** Options of its factory, where roles are `node ...entry role args`; JSON. */
  readonly optionsOf: (entry: readonly string[], deadlines: Partial<SuperviseDeadlines>) => object;
  /** The file that exports the factory, by URL, and its name. */
  readonly module: string;
  readonly factory: string;
  /** Milliseconds that one start may take more than a local one. */
  readonly slower?: number;
}

/** What every launcher that supervises processes must do; `it` reads the fake roles' files, so they must run on this machine. */
export function launcherConformance(subject: LauncherUnderTest): void {
  describe(`launcher conformance: ${subject.name}`, function () {
    this.timeout(30_000 + 20 * (subject.slower ?? 0));
    let folder: string;
    let scheduler: RunningServer;
    let reported: RoleExitedRequest__Output[];
    let onReport: () => void;
    let told: string[];

    before(async function () {
      const reason = (await subject.prepare?.()) ?? null;
      if (reason === null) return;
      console.log(`      skipped: ${reason}`);
      this.skip();
    });
    after(() => subject.cleanUp?.());

    beforeEach(async () => {
      folder = mkdtempSync(join(tmpdir(), 'whittle-launcher-'));
      writeFileSync(join(folder, 'run.yaml'), 'name: fake\n');
      reported = [];
      told = [];
      onReport = () => undefined;
      scheduler = await startServer({
        host: '127.0.0.1',
        port: 0,
        services: [
          service(Scheduler.service, {
            Session: (stream: ServerDuplexStream<unknown, unknown>) => stream.end(),
            Status: unaryHandler(() => ({ json: '{}' })),
            Watch: (stream: ServerWritableStream<unknown, unknown>) => stream.end(),
            Stop: unaryHandler(() => ({})),
            RoleExited: unaryHandler((request: RoleExitedRequest__Output) => {
              reported.push(request);
              onReport();
              return {};
            }),
          }),
        ],
      });
    });
    afterEach(async () => {
      await scheduler.stop(0);
      // What a broken launcher left must not outlive the test.
      for (const pid of allPids()) tryKill(pid);
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    });

    const never = new AbortController().signal;
    const DEADLINES: Partial<SuperviseDeadlines> = {
      listening: 10_000 + (subject.slower ?? 0),
      loss: 300,
      leave: 300,
      leaving: 5_000,
      terminate: 1_000 + (subject.slower ?? 0),
      backoff: 10,
    };
    const plan = (change: Partial<LaunchPlan> = {}): LaunchPlan => ({
      runId: 'fake',
      runDirectory: folder,
      servers: 2,
      workers: 2,
      minWorkers: 2,
      standbys: 0,
      maxRestarts: 3,
      host: '127.0.0.1',
      port: 0,
      resume: null,
      ...change,
    });
    const behave = (behaviour: Record<string, unknown>): void =>
      writeFileSync(
        join(folder, 'fake.json'),
        JSON.stringify({ ...behaviour, 'scheduler-0': withAddress(behaviour['scheduler-0'] ?? {}) }),
      );
    const withAddress = (given: unknown): unknown =>
      Array.isArray(given) ? given.map(withAddress) : { address: scheduler.address, ...(given as object) };
    const launcher = async (deadlines: Partial<SuperviseDeadlines> = {}): Promise<Launcher> => {
      const module = (await import(subject.module)) as Record<string, (options: object) => Launcher>;
      const factory = module[subject.factory];
      assert.ok(factory, `${subject.module} exports ${subject.factory}`);
      return factory(subject.optionsOf([FAKE_ROLE], { ...DEADLINES, ...deadlines }));
    };
    const tell = (line: string): void => void told.push(line);
    const read = (name: string): string => readFileSync(join(folder, name), 'utf8');
    const pidsOf = (name: string): number[] =>
      existsSync(join(folder, `${name}.starts`)) ? read(`${name}.starts`).split('\n').slice(0, -1).map(Number) : [];
    const allPids = (): number[] =>
      existsSync(folder)
        ? readdirSync(folder)
            .filter((name) => name.endsWith('.starts'))
            .flatMap((name) => pidsOf(name.replace(/\.starts$/, '')))
        : [];
    const write = (name: string, text = ''): void => writeFileSync(join(folder, name), text);
    /** Resolves when `look` holds; it is asked at every change in the folder. */
    const until = (look: () => boolean): Promise<void> =>
      new Promise<void>((resolve) => {
        const watcher = watch(folder, check);
        function check(): void {
          if (!look()) return;
          watcher.close();
          resolve();
        }
        check();
      });
    const started = (name: string, times: number): Promise<void> => until(() => pidsOf(name).length >= times);
    const members = ['server-0', 'server-1', 'worker-0', 'worker-1'];
    const allUp = (): Promise<void> => until(() => members.every((name) => existsSync(join(folder, `${name}.up`))));
    const nothingLeft = (): void => {
      for (const pid of allPids()) assert.equal(isAlive(pid), false, `process ${pid} is still there`);
    };

    it('starts every role, with ranks and the address of the scheduler, and sees them end', async () => {
      behave({});
      const run = await (await launcher()).start(plan(), never, tell);
      assert.equal(run.schedulerAddress, scheduler.address);
      assert.equal(run.generation, 3);
      assert.deepEqual(
        run.processes.map(({ role, rank }) => `${role}[${rank}]`),
        ['scheduler[0]', 'server[0]', 'server[1]', 'worker[0]', 'worker[1]'],
      );
      await allUp();
      const argv = (JSON.parse(read('worker-1.argv')) as string[]).join(' ');
      assert.match(argv, /^worker /);
      for (const part of [`--run-dir ${folder}`, `--scheduler ${scheduler.address}`, '--rank 1', '--host '])
        assert.ok(argv.includes(part), `${part} in ${argv}`);
      write('end');
      assert.deepEqual(await run.ended, { schedulerExit: { code: 0, signal: null }, loss: null });
      assert.deepEqual(reported, []);
      assert.equal(allPids().length, 5);
      nothingLeft();
    });

    it('starts a member that was killed again, tells it and reports it', async () => {
      behave({ 'server-1': [{ killAt: 'now' }, {}] });
      const run = await (await launcher()).start(plan(), never, tell);
      await allUp();
      const report = new Promise<void>((resolve) => (onReport = resolve));
      write('now');
      await started('server-1', 2);
      await report;
      assert.deepEqual(
        reported.map(({ role, rank, replaced, message }) => [role, rank, replaced, message]),
        [['server', 1, true, 'server[1] was killed by SIGKILL']],
      );
      write('end');
      assert.equal((await run.ended).loss, null);
      assert.deepEqual(told, ['server[1] was killed by SIGKILL; started again (1 of 3)']);
      assert.equal(allPids().length, 6);
      nothingLeft();
    });

    it('starts a scheduler that was killed again, to recover on its port, and leaves the members alone', async () => {
      behave({ 'scheduler-0': [{ killAt: 'now' }, {}] });
      const run = await (await launcher()).start(plan(), never, tell);
      await allUp();
      write('now');
      await started('scheduler-0', 2);
      const argv = JSON.parse(read('scheduler-0.argv')) as string[];
      assert.ok(argv.includes('--recover'), argv.join(' '));
      assert.equal(argv[argv.indexOf('--port') + 1], scheduler.address.split(':').at(-1));
      write('end');
      assert.deepEqual(await run.ended, { schedulerExit: { code: 0, signal: null }, loss: null });
      for (const name of members) assert.equal(pidsOf(name).length, 1, name);
      nothingLeft();
    });

    it('gives up when the restarts are used up, and the cause is the first thing named', async () => {
      behave({ 'server-0': { kill: 'SIGKILL', print: 'about to die' } });
      const run = await (await launcher()).start(plan({ maxRestarts: 2 }), never, tell);
      const { loss } = await run.ended;
      assert.deepEqual([loss?.role, loss?.rank, loss?.exit], ['server', 0, { code: null, signal: 'SIGKILL' }]);
      assert.deepEqual(loss?.output, ['about to die']);
      assert.equal(pidsOf('server-0').length, 3);
      assert.equal(told.at(-1), 'server[0] was killed by SIGKILL; all 2 restarts are used up');
      assert.deepEqual(
        reported.map(({ replaced }) => replaced),
        [true, true, false],
      );
      nothingLeft();
    });

    it('ends the run at the first death where nothing may be started again', async () => {
      behave({ 'worker-1': { kill: 'SIGKILL' } });
      const run = await (await launcher()).start(plan({ maxRestarts: 0 }), never, tell);
      const { loss } = await run.ended;
      assert.deepEqual([loss?.role, loss?.rank, loss?.schedulerEnded], ['worker', 1, false]);
      assert.deepEqual(told, []);
      nothingLeft();
    });

    it('goes on without a worker that can be spared', async () => {
      behave({ 'worker-1': { killAt: 'now' }, 'worker-0': {} });
      const run = await (await launcher()).start(plan({ maxRestarts: 0, minWorkers: 1 }), never, tell);
      await allUp();
      const report = new Promise<void>((resolve) => (onReport = resolve));
      write('now');
      await report;
      assert.deepEqual([reported[0]?.role, reported[0]?.rank, reported[0]?.replaced], ['worker', 1, false]);
      write('end');
      assert.equal((await run.ended).loss, null);
      assert.deepEqual(told, ['worker[1] was killed by SIGKILL; 1 workers go on']);
      nothingLeft();
    });

    it('starts nothing again for a failure that the scheduler ends the run for', async () => {
      behave({ 'scheduler-0': { exit: 1 }, 'worker-0': { exit: 1, print: 'error: [NOT_FINITE] the loss is NaN' } });
      const run = await (await launcher({ loss: 20_000 })).start(plan(), never, tell);
      await started('worker-0', 1);
      await gone(pidsOf('worker-0')[0]);
      // And whatever stands for it where the launcher is.
      const standIn = run.processes.find(({ role, rank }) => role === 'worker' && rank === 0);
      if (standIn) await gone(standIn.pid);
      write('end');
      const { loss, schedulerExit } = await run.ended;
      assert.equal(schedulerExit.code, 1);
      assert.deepEqual([loss?.role, loss?.rank, loss?.schedulerEnded], ['worker', 0, true]);
      assert.equal(pidsOf('worker-0').length, 1);
      nothingLeft();
    });

    it('leaves nothing after kill()', async () => {
      behave({ 'scheduler-0': { stubborn: true }, server: { stubborn: true }, worker: { stubborn: true } });
      const run = await (await launcher()).start(plan(), never, tell);
      await allUp();
      run.kill();
      assert.equal((await run.ended).schedulerExit.signal, 'SIGKILL');
      nothingLeft();
    });

    it('leaves nothing when interrupted while it starts', async () => {
      behave({ 'scheduler-0': { listen: false } });
      const controller = new AbortController();
      const starting = (await launcher()).start(plan(), controller.signal, tell);
      await started('scheduler-0', 1);
      controller.abort();
      await assert.rejects(starting, /\[INTERRUPTED\]/);
      nothingLeft();
    });

    it('rejects with the words of a scheduler that ends before it listens', async () => {
      behave({ 'scheduler-0': { early: true, exit: 2, print: 'error: [CHECKPOINT] step 7 is damaged' } });
      await assert.rejects((await launcher()).start(plan(), never, tell), (error: unknown) => {
        assert.ok(error instanceof WhittleError || (error as Error).name === 'WhittleError');
        assert.match((error as Error).message, /\[CHECKPOINT\] step 7 is damaged/);
        return true;
      });
      nothingLeft();
    });

    it('leaves nothing when it is itself killed', async () => {
      behave({});
      const held = holdLauncher(subject, subject.optionsOf([FAKE_ROLE], DEADLINES), plan());
      const [address] = (await once(held.stdout ?? assert.fail('no stdout'), 'data')) as [Buffer];
      assert.equal(address.toString().trim(), scheduler.address);
      await allUp();
      held.kill('SIGKILL');
      await Promise.all(allPids().map((pid) => gone(pid)));
    });
  });
}

function holdLauncher({ module, factory }: LauncherUnderTest, options: object, plan: LaunchPlan): ChildProcess {
  const main = fileURLToPath(new URL('./fixtures/hold-launcher.ts', import.meta.url));
  const held = JSON.stringify({ module, factory, options, plan });
  return spawn(process.execPath, ['--import', 'tsx', main, held], { stdio: ['ignore', 'pipe', 'inherit'] });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  // A zombie is nobody's: here its parent is gone or has not looked yet.
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    return;
  }
}

async function gone(pid: number | undefined): Promise<void> {
  assert.ok(pid !== undefined && pid > 0);
  while (isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 10));
}
