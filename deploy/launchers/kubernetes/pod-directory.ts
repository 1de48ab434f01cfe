import { readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder, writeDurably } from '../../../shared/checkpoint/durable.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { RunDirectory } from '../../../shared/telemetry/run-directory.ts';
import { RUN_FILE_KEY } from './files.ts';

/** In the run directory: which launch or resume it was made ready for. */
const LAUNCH_FILE = 'kubernetes-launch-id';

export interface PreparedDirectory {
  /** True for the first scheduler of this launch; a later one takes the place of another. */
  readonly first: boolean;
}

/**
 * Makes the run directory on the volume ready for a launch or resume, once, however often the scheduler's pod is
 * replaced. Errors: RUN_EXISTS where another run of this id has checkpoints there, DISK.
 */
export async function prepareDirectory(options: {
  readonly runDirectory: string;
  /** Folder of the run's files, with the run file among them. */
  readonly files: string;
  readonly launchId: string;
  readonly resume: boolean;
}): Promise<PreparedDirectory> {
  const directory = new RunDirectory(options.runDirectory);
  const marker = join(directory.path, LAUNCH_FILE);
  if ((await readFile(marker, 'utf8').catch(() => '')) === options.launchId) return { first: false };
  if (!options.resume && (await readdir(directory.checkpointsFolder).catch(() => [])).length > 0)
    throw new WhittleError(
      'RUN_EXISTS',
      `the volume has checkpoints of a run ${directory.runId} already; continue it with \`whittle resume\`, or choose another --run-id`,
      { data: { runId: directory.runId } },
    );
  await makeFolder(directory.logsFolder);
  await makeFolder(directory.checkpointsFolder);
  // The result of an earlier part of the run must not be taken for that of this one.
  await rm(directory.resultFile, { force: true });
  await write(directory.runFile, await readFile(join(options.files, RUN_FILE_KEY), 'utf8'));
  // Last: a pod that died in between begins again.
  await write(marker, options.launchId);
  return { first: true };
}

function write(path: string, text: string): Promise<void> {
  const bytes = Buffer.from(text);
  return writeDurably(path, bytes.length, (sink) => sink(bytes));
}
