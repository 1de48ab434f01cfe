import { open } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { WhittleError } from '../errors.ts';
import { errorCode, writeDurably } from './durable.ts';
import { MANIFEST_VERSION, type Manifest } from './manifest.ts';
import { sizeOfShape } from './safetensors.ts';

export const MANIFEST_FILE = 'manifest.json';
/** Largest manifest: it holds the model's topology and the run file, no tensors. */
export const MAX_MANIFEST_BYTES = 64 << 20;
const MAX_SHARDS = 65_536;

const count = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const name = z.string().min(1).max(1024);
const shape = z.array(count).max(16);
const shard = z.object({
  file: z.string().regex(/^shard-\d{1,6}\.safetensors$/),
  start: count,
  end: count,
  bytes: count,
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  hasState: z.boolean(),
});
const model = z.looseObject({
  parameters: z.array(z.object({ name, shape, layerKind: z.string().max(1024), prunable: z.boolean() })).min(1),
  states: z.array(z.object({ name, shape })),
  topology: z.unknown(),
  layers: z.array(z.object({ name, className: name, outputShape: z.array(count.nullable()) })),
  trainExamples: count,
  testExamples: count,
  notes: z.array(z.string()),
});
const manifest = z.object({
  version: z.literal(MANIFEST_VERSION),
  whittleVersion: z.string().max(256),
  runId: z.string().max(256),
  generation: count,
  clock: count,
  maskEpoch: count,
  dataPosition: count,
  shards: z.array(shard).min(1).max(MAX_SHARDS),
  sparsity: z.number().min(0).max(1),
  model,
  config: z.record(z.string(), z.unknown()),
  fingerprint: z.string().max(65_536),
  testAccuracy: z.number().nullable(),
  writtenAt: z.string().max(64),
});

/** Number of elements of the parameter space. */
export function spaceSize(of: Manifest): number {
  return of.model.parameters.reduce((size, parameter) => size + sizeOfShape(parameter.shape), 0);
}

/** Number of elements of the non-trainable state. */
export function stateSize(of: Manifest): number {
  return of.model.states.reduce((size, state) => size + sizeOfShape(state.shape), 0);
}

/** Writes `manifest.json` durably; from its rename on the checkpoint exists. */
export async function writeManifest(folder: string, content: Manifest): Promise<void> {
  parseManifest(join(folder, MANIFEST_FILE), content);
  const bytes = Buffer.from(JSON.stringify(content, null, 1) + '\n');
  await writeDurably(join(folder, MANIFEST_FILE), bytes.length, (sink) => sink(bytes));
}

/** Reads and checks a folder's manifest, without opening its shards. Errors: CHECKPOINT, naming the folder and why. */
export async function readManifest(folder: string): Promise<Manifest> {
  const path = join(folder, MANIFEST_FILE);
  let text: string;
  try {
    const handle = await open(path, 'r');
    try {
      const { size } = await handle.stat();
      if (size > MAX_MANIFEST_BYTES) {
        throw new WhittleError(
          'CHECKPOINT',
          `${path} has ${size} bytes, more than the ${MAX_MANIFEST_BYTES} of any manifest`,
        );
      }
      text = await handle.readFile('utf8');
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof WhittleError) throw error;
    const why =
      errorCode(error) === 'ENOENT'
        ? 'no manifest.json (it was never finished)'
        : `manifest.json cannot be read (${errorCode(error)})`;
    throw new WhittleError('CHECKPOINT', `${folder}: ${why}`, { cause: error });
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new WhittleError('CHECKPOINT', `${path} is not JSON (truncated or damaged)`, { cause: error });
  }
  return parseManifest(path, parsed);
}

function parseManifest(path: string, content: unknown): Manifest {
  const version = (content as { version?: unknown } | null)?.version;
  if (typeof version === 'number' && version !== MANIFEST_VERSION) {
    throw new WhittleError(
      'CHECKPOINT',
      `${path} has format ${version}, this Whittle reads ${MANIFEST_VERSION}; use the version that wrote it`,
    );
  }
  const result = manifest.safeParse(content);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new WhittleError('CHECKPOINT', `${path}: ${issue?.path.join('.') ?? ''} ${issue?.message ?? 'is wrong'}`);
  }
  // The schema checks what checkpoints themselves use; the run file's own schema belongs to shared/config.
  const checked = content as Manifest;
  const wrong = checkRanges(checked);
  if (wrong !== null) throw new WhittleError('CHECKPOINT', `${path}: ${wrong}`);
  return checked;
}

/** Shards lie end to end over 0 .. N, cut at multiples of 64, and exactly one holds the state if there is any. */
function checkRanges(of: Manifest): string | null {
  const size = spaceSize(of);
  let next = 0;
  for (const { file, start, end } of of.shards) {
    if (start !== next) return `${file} starts at ${start}, not at ${next}`;
    if (end < start || (end % 64 !== 0 && end !== size)) return `${file} ends at ${end}, which is no cut`;
    next = end;
  }
  if (next !== size) return `the shards end at ${next}, the model has ${size} elements`;
  if (new Set(of.shards.map(({ file }) => file)).size !== of.shards.length) return 'two shards name the same file';
  const holders = of.shards.filter(({ hasState }) => hasState).length;
  if (holders > 1 || (holders === 0 && of.model.states.length > 0))
    return `${holders} shards hold the non-trainable state`;
  return null;
}

/** `step-<8 digits>-g<generation>` */
export function checkpointName(clock: number, generation: number): string {
  return `step-${String(clock).padStart(8, '0')}-g${generation}`;
}

/** Clock and generation of a checkpoint's name or path, or null. */
export function parseCheckpointName(folder: string): { clock: number; generation: number } | null {
  const match = /^step-(\d{8,15})-g(\d{1,15})$/.exec(basename(folder));
  return match === null ? null : { clock: Number(match[1]), generation: Number(match[2]) };
}
