import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import type { LatestCheckpoint } from '../../shared/coordination/coordinator.ts';
import { EmbeddedCoordinator } from '../../shared/coordination/embedded.ts';
import { readRunLock } from '../../shared/coordination/lock.ts';
import { FAILPOINTS_FOLDER_VARIABLE, FAILPOINTS_VARIABLE, firedFile } from '../../shared/telemetry/failpoints.ts';
import type { RunResult, RunStatus, StepMetrics } from '../../shared/telemetry/run-status.ts';

/** The compiled command line: cluster tests run what users run. `npm test` builds it first. */
export const WHITTLE = fileURLToPath(new URL('../../dist/deploy/cli/main.js', import.meta.url));
export const FIXTURES = fileURLToPath(new URL('../fixtures/', import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A folder that disappears with the test. */
export async function withFolder<T>(run: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'whittle-test-'));
  try {
    return await run(folder);
  } finally {
    await removeFolder(folder);
  }
}

/** A test that failed must not leave a run behind, which would slow down all that follow. */
export async function removeFolder(folder: string): Promise<void> {
  for (const pid of await processesOf(folder)) killQuietly(pid);
  await rm(folder, { recursive: true, force: true, maxRetries: 3 });
}

/** Starts `whittle ...`; `ended` resolves with its exit code and output. */
export function start(
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv } = {},
): { readonly child: ChildProcess; readonly ended: Promise<Ended> } {
  const child = spawn(process.execPath, [WHITTLE, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', ...options.env },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = new Promise<Ended>((resolve) => child.on('close', (code) => resolve({ code, stdout, stderr })));
  return { child, ended };
}

export function whittle(args: readonly string[], options?: { readonly env?: NodeJS.ProcessEnv }): Promise<Ended> {
  return start(args, options).ended;
}

export async function writeRunFile(folder: string, document: unknown, name = 'run'): Promise<string> {
  const path = join(folder, `${name}.yaml`);
  await writeFile(path, stringify(document));
  return path;
}

/** Runs `launch` or `resume` with --json to its end and returns the result line; fails with the output otherwise. */
export async function finish(args: readonly string[]): Promise<RunResult> {
  const { code, stdout, stderr } = await whittle([...args, '--json']);
  if (code !== 0) throw new Error(`whittle ${args.join(' ')} exited with ${code}\n${stderr}\n${stdout}`);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as RunResult;
}

export async function readMetrics(runDirectory: string): Promise<StepMetrics[]> {
  const text = await readFile(join(runDirectory, 'metrics.jsonl'), 'utf8');
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as StepMetrics);
}

export async function readStatus(runDirectory: string): Promise<RunStatus> {
  return JSON.parse(await readFile(join(runDirectory, 'status.json'), 'utf8')) as RunStatus;
}

/** The run file of the golden training run (test/golden/training.json): real processes must repeat PyTorch's losses. */
export function goldenRunFile(changes: { servers: number; workers: number; slices?: number }): Record<string, unknown> {
  return {
    name: 'golden',
    model: join(FIXTURES, 'golden-model.ts'),
    data: { source: join(FIXTURES, 'golden-data.ts'), batchSize: 32, order: 'sequential' },
    cluster: {
      servers: changes.servers,
      workers: changes.workers,
      backend: 'wasm',
      ...(changes.slices ? { slices: changes.slices } : {}),
    },
    training: { steps: 60, optimizer: { kind: 'sgd', learningRate: 0.1, momentum: 0.9 }, evaluateEvery: 0 },
    sparsity: [
      {
        match: '*/kernel',
        schedule: {
          kind: 'polynomial',
          initialSparsity: 0,
          finalSparsity: 0.8,
          beginStep: 10,
          endStep: 50,
          frequency: 10,
          power: 3,
        },
        scope: 'global',
      },
    ],
    checkpoint: { every: 20, keep: 3 },
  };
}

/**
 * Does a job for each item, two at a time, and answers in their order: a run that starts leaves one of two cores idle.
 * Not for jobs whose faults are timed by steps.
 */
export async function twoAtOnce<T, R>(items: readonly T[], job: (item: T) => Promise<R>): Promise<R[]> {
  const left = [...items.entries()];
  const results: R[] = [];
  const lane = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) results[next[0]] = await job(next[1]);
  };
  await Promise.all([lane(), lane()]);
  return results;
}

/** Looks again and again until `look` finds something; fails with `what` after the deadline. */
export async function until<T>(
  what: string,
  look: () => Promise<T | null> | T | null,
  milliseconds = 60_000,
): Promise<T> {
  for (const end = Date.now() + milliseconds; ;) {
    const found = await look();
    if (found !== null) return found;
    if (Date.now() > end) throw new Error(`waited ${milliseconds / 1000} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Resolves when `metrics.jsonl` has the record of `step`; fails when the run ends before. */
export async function untilStep(runDirectory: string, step: number, ended: Promise<Ended>): Promise<void> {
  let over: Ended | null = null;
  void ended.then((end) => (over = end));
  await until(`step ${step} in ${runDirectory}`, async () => {
    const metrics = await readMetrics(runDirectory).catch(() => []);
    if ((metrics.at(-1)?.step ?? 0) >= step) return true;
    if (over !== null) throw new Error(`the run ended before step ${step}:\n${over.stderr}\n${over.stdout}`);
    return null;
  });
}

/** Processes that live (zombies do not) and name `folder` in their command line: those of its runs, launchers included. */
export async function processesOf(folder: string): Promise<number[]> {
  const pids: number[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    const command = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '');
    if (command.includes(folder)) pids.push(Number(entry));
  }
  return pids;
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended meanwhile.
  }
}

/** A run is over only when nothing of it lives and its directory can be taken. */
export async function assertQuiet(runDirectory: string): Promise<void> {
  const left = await processesOf(runDirectory);
  assert.deepEqual(left, [], `processes of ${runDirectory} still live`);
  assert.equal(await readRunLock(runDirectory), null, 'the lock of the run directory is still held');
}

/** The pids that a run tells of itself. */
export async function rolePids(runDirectory: string): Promise<number[]> {
  const status = await readStatus(runDirectory);
  return [status.scheduler.pid, ...status.members.map(({ pid }) => pid)];
}

/** Kills launcher and all roles as one, as a power cut does; resolves when none is left. */
export async function killRun(runDirectory: string, launcher: ChildProcess): Promise<void> {
  const pids = await rolePids(runDirectory);
  launcher.kill('SIGKILL');
  for (const pid of pids) killQuietly(pid);
  await until('the killed processes to be gone', async () =>
    (await processesOf(runDirectory)).length === 0 ? true : null,
  );
}

/** Launches a run that stands still at a failpoint, such as `hold.reached@30`, and kills all of it there. */
export async function launchAndKillAt(point: string, args: readonly string[], runDirectory: string): Promise<void> {
  const marks = `${runDirectory}-marks`;
  const env = { [FAILPOINTS_VARIABLE]: `here:${point}=block`, [FAILPOINTS_FOLDER_VARIABLE]: marks };
  const { child, ended } = start(args, { env });
  let over: Ended | null = null;
  void ended.then((end) => (over = end));
  await until(
    `failpoint ${point}`,
    () => {
      if (over !== null) throw new Error(`the run ended before ${point}:\n${over.stderr}\n${over.stdout}`);
      return existsSync(firedFile(marks, 'here')) ? true : null;
    },
    180_000,
  );
  child.kill('SIGKILL');
  for (const pid of await processesOf(runDirectory)) killQuietly(pid);
  await until('the killed processes to be gone', async () =>
    (await processesOf(runDirectory)).length === 0 ? true : null,
  );
}

/** What the run's coordinator says the last committed checkpoint is. */
export async function latestCheckpoint(runDirectory: string): Promise<LatestCheckpoint> {
  const coordinator = await EmbeddedCoordinator.open(runDirectory);
  try {
    const latest = await coordinator.latest();
    assert.ok(latest, `${runDirectory} has no checkpoint`);
    return latest;
  } finally {
    await coordinator.close();
  }
}

export function digestsOf({ weightsDigest, maskDigest, stateDigest }: RunResult): readonly string[] {
  assert.ok(weightsDigest && maskDigest && stateDigest, 'digests are missing');
  return [weightsDigest, maskDigest, stateDigest];
}

export function lastJson<T>({ stdout }: Ended): T {
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as T;
}

/** Batch normalisation, dropout, clipping and pruning in a model so small that a step takes a few milliseconds. */
export function smallRunFile(changes: {
  steps: number;
  servers?: number;
  workers?: number;
  every?: number;
  keep?: number;
}): Record<string, unknown> {
  const { steps, servers = 2, workers = 2, every = 100, keep = 20 } = changes;
  return {
    name: 'small',
    model: join(FIXTURES, 'bn-dropout-model.ts'),
    data: { source: join(FIXTURES, 'golden-data.ts'), batchSize: 32, order: 'shuffled' },
    cluster: { servers, workers, backend: 'wasm', slices: 2 },
    training: { steps, optimizer: { kind: 'adam', learningRate: 0.01 }, clipNorm: 0.5, evaluateEvery: 0 },
    sparsity: [
      {
        match: '*/kernel',
        schedule: {
          kind: 'polynomial',
          finalSparsity: 0.8,
          beginStep: 10,
          endStep: Math.max(11, Math.floor(0.9 * steps)),
          frequency: 37,
          power: 3,
        },
      },
    ],
    checkpoint: { every, keep },
  };
}
