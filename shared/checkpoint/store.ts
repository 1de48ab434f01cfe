import { readdir, rm, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { WhittleError } from '../errors.ts';
import type { GenerationRecord } from '../coordination/coordinator.ts';
import { errorCode, makeFolder } from './durable.ts';
import { checkpointName, MANIFEST_FILE, parseCheckpointName, readManifest, writeManifest } from './manifest-file.ts';
import type { Manifest, ShardSnapshot } from './manifest.ts';
import { readRange, type ReadRangeOptions } from './reshard.ts';
import { verifyCheckpoint } from './verify.ts';

export interface CheckpointEntry {
  /** `step-00000468-g1` */
  readonly name: string;
  /** Absolute path. */
  readonly path: string;
  readonly clock: number;
  readonly generation: number;
  /** True when it has a manifest. False: being written, or left over. */
  readonly complete: boolean;
}

export interface UsableOptions {
  /** Largest clock wanted. Default: any. */
  readonly atOrBelow?: number;
  /** What the coordinator's `latest` names (name or path): nothing newer than it is used. */
  readonly pointer?: string | null;
  /** The coordinator's generations: checkpoints of a timeline that a rollback abandoned are left out. */
  readonly lineage?: readonly GenerationRecord[];
}

export interface RetainOptions {
  /** What `latest` names (name or path): never deleted. */
  readonly latest: string | null;
  /** The generation in force. */
  readonly generation: number;
  readonly lineage?: readonly GenerationRecord[];
  /** Clocks whose newest finished checkpoint is kept as well. */
  readonly needed?: readonly number[];
}

export type Warn = (message: string) => void;

/** The checkpoints of a run directory. Safe to use from one scheduler and, for reading, from anywhere. */
export class CheckpointStore {
  /** Absolute path of `checkpoints/`. */
  readonly folder: string;

  constructor(runDirectory: string) {
    this.folder = resolve(runDirectory, 'checkpoints');
  }

  folderName(clock: number, generation: number): string {
    return checkpointName(clock, generation);
  }

  /** Absolute path of a manifest's checkpoint. */
  folderOf(manifest: Manifest): string {
    return join(this.folder, checkpointName(manifest.clock, manifest.generation));
  }

  /**
   * Makes the folder of a new checkpoint, durable and without a manifest, and answers its absolute path. Every server
   * calls it: an unfinished one of the same clock and generation is used. Errors: DISK; CHECKPOINT when it is
   * finished already.
   */
  async create(clock: number, generation: number): Promise<string> {
    const path = join(this.folder, checkpointName(clock, generation));
    if (await exists(join(path, MANIFEST_FILE))) throw new WhittleError('CHECKPOINT', `${path} exists and is finished`);
    await makeFolder(this.folder);
    await makeFolder(path);
    return path;
  }

  /**
   * Writes the manifest, last: before it the checkpoint does not exist, after it every shard is durable. Publishing
   * again (with a test accuracy, say) replaces the manifest atomically.
   * Errors: CHECKPOINT when a shard file is missing or has another size; DISK.
   */
  async publish(manifest: Manifest): Promise<void> {
    const folder = this.folderOf(manifest);
    for (const { file, bytes } of manifest.shards) {
      const size = await stat(join(folder, file)).then(
        (stats) => stats.size,
        () => -1,
      );
      if (size !== bytes)
        throw new WhittleError('CHECKPOINT', `${join(folder, file)} has ${size} bytes, ${bytes} were written`);
    }
    await writeManifest(folder, manifest);
  }

  /** All checkpoint folders, oldest first: by generation, then clock. A run without checkpoints has none. */
  async list(): Promise<CheckpointEntry[]> {
    const names = await readdir(this.folder).catch((error: unknown) => {
      if (errorCode(error) === 'ENOENT') return [];
      throw new WhittleError('CHECKPOINT', `${this.folder} cannot be read (${errorCode(error)})`, { cause: error });
    });
    const entries: CheckpointEntry[] = [];
    for (const name of names) {
      const parsed = parseCheckpointName(name);
      if (parsed === null) continue;
      const path = join(this.folder, name);
      entries.push({ name, path, ...parsed, complete: await exists(join(path, MANIFEST_FILE)) });
    }
    return entries.sort((a, b) => a.generation - b.generation || a.clock - b.clock);
  }

  /** The manifest of a checkpoint (name or path), checked by itself; its shards are not opened. Errors: CHECKPOINT. */
  read(folder: string): Promise<Manifest> {
    return readManifest(resolve(this.folder, folder));
  }

  /**
   * The manifest of a checkpoint of this run, named by another process: a name as `folderName` gives it, never a path
   * that leads elsewhere. Errors: SECURITY, CHECKPOINT.
   */
  async readOwn(name: string): Promise<Manifest> {
    requireCheckpointName(name);
    return this.read(name);
  }

  /** Checks a checkpoint (name or path) whole, reading every byte. Errors: CHECKPOINT, naming what is wrong. */
  async verify(folder: string): Promise<Manifest> {
    const path = resolve(this.folder, folder);
    const manifest = await verifyCheckpoint(path);
    const name = parseCheckpointName(path);
    if (name !== null && (name.clock !== manifest.clock || name.generation !== manifest.generation)) {
      throw new WhittleError(
        'CHECKPOINT',
        `${path} holds the manifest of ${checkpointName(manifest.clock, manifest.generation)}`,
      );
    }
    return manifest;
  }

  /** The newest checkpoint that verifies, or null. Each one passed over is named in a warning with the reason. */
  async newestUsable(options: UsableOptions, warn: Warn): Promise<{ folder: string; manifest: Manifest } | null> {
    const pointer = options.pointer == null ? null : basename(options.pointer);
    const limit = Math.min(
      options.atOrBelow ?? Infinity,
      (pointer === null ? null : parseCheckpointName(pointer))?.clock ?? Infinity,
    );
    const onTimeline = timeline(options.lineage ?? []);
    const candidates = (await this.list()).reverse().filter((entry) => entry.clock <= limit && onTimeline(entry));
    if (pointer !== null && limit === parseCheckpointName(pointer)?.clock) {
      const named = candidates.findIndex(({ name }) => name === pointer);
      if (named < 0) warn(`checkpoint ${join(this.folder, pointer)} is missing, although it is the latest one`);
      // Written later than the pointer but never made the latest: not part of the run.
      else candidates.splice(0, named);
    }
    for (const { path } of candidates) {
      try {
        return { folder: path, manifest: await this.verify(path) };
      } catch (error) {
        warn(`checkpoint ${path} is skipped: ${WhittleError.from(error).rawMessage}`);
      }
    }
    return null;
  }

  /**
   * Keeps the newest `keep` finished checkpoints and the one `latest` names, and deletes older ones and what is left
   * over of unfinished ones: those of older generations, and those of this one below `latest`, which a server could
   * not write. What is newer may be being written. What cannot be deleted is a warning. Answers the names deleted.
   */
  async retain(keep: number, options: RetainOptions, warn: Warn = () => undefined): Promise<string[]> {
    const onTimeline = timeline(options.lineage ?? []);
    const entries = (await this.list()).reverse().filter(({ generation }) => generation <= options.generation);
    const finished = entries.filter(({ complete }) => complete);
    const ranked = [...finished.filter(onTimeline), ...finished.filter((entry) => !onTimeline(entry))];
    const kept = new Set(ranked.slice(0, keep).map(({ name }) => name));
    const latest = options.latest === null ? '' : basename(options.latest);
    kept.add(latest);
    for (const needed of options.needed ?? []) {
      const entry = ranked.find(({ clock }) => clock === needed);
      if (entry) kept.add(entry.name);
    }
    const latestClock = parseCheckpointName(latest)?.clock ?? 0;
    const deleted: string[] = [];
    for (const { name, path, complete, generation, clock } of entries) {
      const beingWritten = !complete && generation === options.generation && clock >= latestClock;
      if (kept.has(name) || beingWritten) continue;
      if (await remove(path, warn)) deleted.push(name);
    }
    return deleted;
  }

  /** Any flat range of a checkpoint, whatever its shards were; see reshard.ts. */
  readRange(manifest: Manifest, start: number, end: number, options: ReadRangeOptions = {}): Promise<ShardSnapshot> {
    return readRange(this.folderOf(manifest), manifest, start, end, options);
  }
}

/** Refuses what is no name of a checkpoint, such as a path out of the run directory. Errors: SECURITY. */
export function requireCheckpointName(name: string): void {
  if (basename(name) === name && parseCheckpointName(name) !== null) return;
  throw new WhittleError(
    'SECURITY',
    `checkpoint ${JSON.stringify(name)} is none of the run's own; it must be a name such as step-00000500-g1, not a path`,
    { data: { name } },
  );
}

/**
 * Which checkpoints belong to the timeline of the newest generation: its own, those of its parent up to the clock it
 * started from, and so on. Generations that the lineage does not know all belong.
 */
function timeline(lineage: readonly GenerationRecord[]): (entry: { generation: number; clock: number }) => boolean {
  const known = new Map(lineage.map((record) => [record.generation, record]));
  const limits = new Map<number, number>();
  let record = known.get(Math.max(0, ...known.keys()));
  for (let limit = Infinity; record !== undefined;) {
    limits.set(record.generation, limit);
    const parent = record.from === null ? null : parseCheckpointName(record.from.checkpoint);
    limit = record.from?.clock ?? 0;
    record = parent === null || parent.generation >= record.generation ? undefined : known.get(parent.generation);
  }
  return ({ generation, clock }) => !known.has(generation) || clock <= (limits.get(generation) ?? -1);
}

/** Removes the manifest first, so that a checkpoint half deleted is not taken for a whole one. */
async function remove(path: string, warn: Warn): Promise<boolean> {
  try {
    await rm(join(path, MANIFEST_FILE), { force: true });
    await rm(path, { recursive: true, force: true });
    return true;
  } catch (error) {
    warn(`checkpoint ${path} could not be deleted (${errorCode(error)}); delete it by hand`);
    return false;
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
