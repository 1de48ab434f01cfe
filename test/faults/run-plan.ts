import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { createLocalLauncher } from '../../deploy/launchers/local.ts';
import { readInjected } from '../../deploy/launchers/faults.ts';
import { launch } from '../../deploy/launchers/run.ts';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { parseRunConfig } from '../../shared/config/effective.ts';
import { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { readHistories } from '../../shared/telemetry/history-files.ts';
import type { ProcessHistory } from '../../shared/telemetry/history-records.ts';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import { WHITTLE, writeRunFile } from '../cluster/support.ts';
import { checkHistory, expectationOf } from './check-history.ts';
import { recordsOf, type Violation } from './history-timeline.ts';

export interface FaultRun {
  readonly result: RunResult | null;
  /** It came to an end by itself within its deadline. */
  readonly ended: boolean;
  readonly violations: readonly Violation[];
  readonly digests: readonly (string | null)[];
  /** Longest time between two steps that some server applied. */
  readonly longestPauseSeconds: number;
  /** Lines of the script that were carried out. */
  readonly injected: readonly string[];
}

/** Launches a run with its faults on this machine, waits for its end, and checks what it recorded. */
export async function runWithFaults(options: {
  /** Made if need be: run file and run directory go there. */
  readonly folder: string;
  readonly runId: string;
  readonly document: Record<string, unknown>;
  readonly faults: readonly string[];
  readonly standbys?: number;
  readonly deadlineMilliseconds: number;
}): Promise<FaultRun> {
  const { folder, runId, faults } = options;
  const document = { ...options.document, history: true, ...(faults.length > 0 ? { faults } : {}) };
  const runFile = await writeRunFile(folder, document);
  const runDirectory = join(folder, runId);
  const deadline = AbortSignal.timeout(options.deadlineMilliseconds);
  const result = await launch(
    {
      runFile,
      runId,
      runsDirectory: folder,
      // The compiled command line, as users run it, whatever runs this.
      on: createLocalLauncher({ entry: [WHITTLE] }),
      ...(options.standbys === undefined ? {} : { standbys: options.standbys }),
    },
    { killSignal: deadline },
  ).catch((reason: unknown) => {
    process.stderr.write(`${runId}: ${reason instanceof Error ? reason.message : String(reason)}\n`);
    return null;
  });
  const ended = result !== null && !deadline.aborted && result.state === 'SUCCEEDED';
  const histories = await readHistories(runDirectory);
  return {
    result,
    ended,
    violations: await check(runDirectory, histories, ended),
    digests: result === null ? [] : [result.weightsDigest, result.maskDigest, result.stateDigest],
    longestPauseSeconds: longestPause(histories),
    injected: (await readInjected(runDirectory)).map(({ line }) => line),
  };
}

/** The run file of the suite: LeNet-300-100 on MNIST, 300 steps, 5 mask updates, checkpoints at 0, 100, 200 and 300. */
export function suiteDocument(): Record<string, unknown> {
  return {
    name: 'faults',
    model: 'lenet-300-100',
    data: { source: 'mnist', batchSize: 64 },
    cluster: { servers: 2, workers: 2, slices: 2, backend: 'wasm' },
    training: { steps: 300, evaluateEvery: 0 },
    sparsity: [{ schedule: { kind: 'polynomial', finalSparsity: 0.9, beginStep: 50, endStep: 250, frequency: 50 } }],
    checkpoint: { every: 100, keep: 3 },
  };
}

async function check(
  runDirectory: string,
  histories: readonly ProcessHistory[],
  succeeded: boolean,
): Promise<readonly Violation[]> {
  const store = new CheckpointStore(runDirectory);
  const last = (await store.list()).filter(({ complete }) => complete).at(-1);
  const text = await readFile(join(runDirectory, 'run.yaml'), 'utf8').catch(() => null);
  // Without a checkpoint or a run file nothing was trained: what there is to say is that it did not end.
  if (last === undefined || text === null) return [];
  const { model } = await store.read(last.name);
  const space = ParameterSpace.of(model.parameters);
  return checkHistory(histories, expectationOf(parseRunConfig(text, runDirectory), space, succeeded));
}

function longestPause(histories: readonly ProcessHistory[]): number {
  const times = recordsOf(histories, 'applied')
    .map(({ at }) => at)
    .sort((a, b) => a - b);
  return Math.max(0, ...times.map((at, i) => at - (times[i - 1] ?? at))) / 1000;
}

export function describePlan(faults: readonly string[]): string {
  return faults.length === 0 ? 'no fault' : stringify(faults, { lineWidth: 0 }).trim().replace(/\n?- /g, '; ').slice(2);
}
