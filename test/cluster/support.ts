import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
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
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  }
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

export async function writeRunFile(folder: string, document: unknown): Promise<string> {
  const path = join(folder, 'run.yaml');
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
        schedule: { kind: 'polynomial', initialSparsity: 0, finalSparsity: 0.8, beginStep: 10, endStep: 50, frequency: 10, power: 3 },
        scope: 'global',
      },
    ],
    checkpoint: { every: 20, keep: 3 },
  };
}
