import { readdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { timelineOf } from '../coordination/scheduler-finder.ts';
import { WhittleError } from '../errors.ts';
import { RunDirectory } from '../telemetry/run-directory.ts';
import { MANIFEST_FILE } from './manifest-file.ts';
import { CheckpointStore } from './store.ts';

/** Where a trained model lies. Paths are absolute. */
export interface TrainedSource {
  /** `checkpoint`: of a Whittle run; `layers-model`: model.json of TensorFlow.js; `safetensors`: a file of tensors. */
  readonly kind: 'checkpoint' | 'layers-model' | 'safetensors';
  /** The checkpoint's folder, or the file. */
  readonly path: string;
}

const MODEL_JSON = 'model.json';
const SAFETENSORS = '.safetensors';

/**
 * What a user names: a run (its id in `runsFolder`, or its directory), whose newest usable checkpoint it becomes, a
 * checkpoint, a folder with model.json or one safetensors file, or such a file itself.
 * Errors: CHECKPOINT, saying what was looked for and where.
 */
export async function locateTrained(name: string, runsFolder: string): Promise<TrainedSource> {
  const path = resolve(name);
  const found = await sourceAt(path);
  if (found !== null) return found;
  let run: RunDirectory;
  try {
    run = await RunDirectory.resolve(runsFolder, name);
  } catch (cause) {
    throw new WhittleError(
      'CHECKPOINT',
      `${name} is neither a run in ${resolve(runsFolder)} nor a run directory, a checkpoint, a folder with ${MODEL_JSON} or ` +
        `one ${SAFETENSORS} file, or such a file: check the name`,
      { cause },
    );
  }
  return { kind: 'checkpoint', path: await newestCheckpoint(run) };
}

/** What lies at a path, or null: nothing of these, or a run, whose newest checkpoint may be another tomorrow. */
export async function sourceAt(path: string): Promise<TrainedSource | null> {
  const kind = await kindOf(path);
  if (kind === 'file') {
    if (path.endsWith(SAFETENSORS)) return { kind: 'safetensors', path };
    return basename(path) === MODEL_JSON ? { kind: 'layers-model', path } : null;
  }
  if (kind === 'none') return null;
  const names = await readdir(path);
  if (names.includes(MANIFEST_FILE)) return { kind: 'checkpoint', path };
  if (names.includes(MODEL_JSON)) return { kind: 'layers-model', path: join(path, MODEL_JSON) };
  const [file, ...others] = names.filter((each) => each.endsWith(SAFETENSORS));
  if (file === undefined) return null;
  if (others.length === 0) return { kind: 'safetensors', path: join(path, file) };
  throw new WhittleError(
    'CHECKPOINT',
    `${path} holds ${others.length + 1} safetensors files (${file}, ${others[0]}, ...): name one of them`,
  );
}

async function newestCheckpoint(run: RunDirectory): Promise<string> {
  const skipped: string[] = [];
  const { latest, lineage } = await timelineOf(run.path);
  const options = { pointer: latest?.folder ?? null, lineage };
  const found = await new CheckpointStore(run.path).newestUsable(options, (warning) => skipped.push(warning));
  if (found !== null) return found.folder;
  const why = skipped.length === 0 ? 'it has written none' : skipped.join('; ');
  throw new WhittleError('CHECKPOINT', `run ${run.path} has no usable checkpoint: ${why}`);
}

async function kindOf(path: string): Promise<'file' | 'folder' | 'none'> {
  try {
    return (await stat(path)).isDirectory() ? 'folder' : 'file';
  } catch {
    return 'none';
  }
}
