import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { MANIFEST_FILE } from '../../shared/checkpoint/manifest-file.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { verifyCheckpoint } from '../../shared/checkpoint/verify.ts';
import { EmbeddedCoordinator } from '../../shared/coordination/embedded.ts';
import { WhittleError } from '../../shared/errors.ts';
import { commandLine } from '../../shared/invocation.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import { earlierCheckpoint, noCheckpoint } from '../launchers/checkpoint-steps.ts';

/** The run that a user means, or the newest one. Errors: RUN_UNKNOWN. */
export async function findRun(run: string | undefined, runsDirectory: string): Promise<RunDirectory> {
  if (run !== undefined) return RunDirectory.resolve(runsDirectory, run);
  const [newest] = await RunDirectory.list(runsDirectory);
  if (newest !== undefined) return newest;
  throw new WhittleError(
    'RUN_UNKNOWN',
    `${resolve(runsDirectory)} holds no runs; start one with \`${commandLine('launch', 'run.yaml')}\`, or name another folder with --runs-dir`,
  );
}

export interface FoundCheckpoint {
  /** Absolute. */
  readonly folder: string;
  readonly manifest: Manifest;
}

/**
 * The checkpoint that a user means, verified: a checkpoint folder, or the newest usable one of a run (of step `step`
 * or before). Errors: RUN_UNKNOWN, CHECKPOINT.
 */
export async function findCheckpoint(
  runOrCheckpoint: string,
  options: {
    readonly runsDirectory: string;
    readonly step: number | undefined;
    readonly warn: (message: string) => void;
    readonly note: (message: string) => void;
  },
): Promise<FoundCheckpoint> {
  const folder = resolve(runOrCheckpoint);
  const isCheckpoint = await stat(join(folder, MANIFEST_FILE)).then(
    () => true,
    () => false,
  );
  if (isCheckpoint) return { folder, manifest: await verifyCheckpoint(folder) };
  const run = await RunDirectory.resolve(options.runsDirectory, runOrCheckpoint);
  const store = new CheckpointStore(run.path);
  const { step } = options;
  const { latest, lineage } = await EmbeddedCoordinator.read(run.path);
  const found = await store.newestUsable(
    { pointer: latest?.folder ?? null, lineage, ...(step === undefined ? {} : { atOrBelow: step }) },
    options.warn,
  );
  if (found !== null) {
    const note = await earlierCheckpoint(store, step, found.manifest.clock);
    if (note !== null) options.note(note);
    return found;
  }
  throw await noCheckpoint(store, step, `the run may not have begun: see \`${commandLine('logs', run.path)}\``);
}
