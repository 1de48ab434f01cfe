import { randomBytes } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { diskError, errorCode, syncFolder } from '../checkpoint/durable.ts';
import { WhittleError } from '../errors.ts';
import type { Coordinator, GenerationRecord, LatestCheckpoint, StartingPoint } from './coordinator.ts';

export const JOURNAL_FILE = 'coordination.jsonl';
const MAX_JOURNAL_BYTES = 256 << 20;

const count = z.number().int().nonnegative();
const entry = z.discriminatedUnion('op', [
  z.object({
    op: z.literal('generation'),
    id: z.string(),
    generation: count,
    from: z.object({ clock: count, checkpoint: z.string() }).nullable(),
  }),
  z.object({ op: z.literal('latest'), id: z.string(), generation: count, clock: count, folder: z.string() }),
]);
type Entry = z.infer<typeof entry>;

interface JournalView {
  readonly latest: LatestCheckpoint | null;
  readonly lineage: readonly GenerationRecord[];
}

/**
 * The coordinator of a run without a service: a journal in the run directory, one JSON object a line.
 *
 * The journal's order decides. A writer appends an entry, syncs it, and then reads the journal on to see whether the
 * entry held: a `generation` entry holds only if it is one more than the generation in force at its place, a
 * `latest` entry only if it names that generation. So an entry that lost a race is in the journal but has no effect,
 * for every reader alike, and a scheduler that lost the run's lock without noticing cannot move `latest`.
 */
export class EmbeddedCoordinator implements Coordinator {
  readonly path: string;
  readonly #handle: FileHandle;
  /** Bytes of the journal already replayed; always the start of a line. */
  #replayed = 0;
  #generations: GenerationRecord[] = [];
  #latest: LatestCheckpoint | null = null;
  /** Operations run one after another. */
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  /**
   * Opens or starts the journal of a run directory, whose lock the caller holds. A last line torn by a crash is cut
   * off: its operation never returned. Errors: CHECKPOINT when a line before the last is damaged; DISK.
   */
  static async open(runDirectory: string): Promise<EmbeddedCoordinator> {
    const path = join(runDirectory, JOURNAL_FILE);
    let handle: FileHandle;
    try {
      handle = await open(path, 'a+');
      await syncFolder(runDirectory);
    } catch (error) {
      throw await diskError(path, 0, error);
    }
    const coordinator = new EmbeddedCoordinator(path, handle);
    try {
      await coordinator.#replay(true);
    } catch (error) {
      await handle.close();
      throw error;
    }
    return coordinator;
  }

  /** What a run's journal says now, for those who only look: changes nothing, needs no lock. */
  static async read(runDirectory: string): Promise<JournalView> {
    const path = join(runDirectory, JOURNAL_FILE);
    const handle = await open(path, 'r').catch((error: unknown) => {
      if (errorCode(error) === 'ENOENT') return null;
      throw error;
    });
    if (!handle) return { latest: null, lineage: [] };
    const coordinator = new EmbeddedCoordinator(path, handle);
    try {
      return { latest: await coordinator.latest(), lineage: await coordinator.lineage() };
    } finally {
      await coordinator.close();
    }
  }

  /** Atomic: one journal entry, decided by its place in the journal. Tries again with a higher number after a lost race. */
  takeGeneration(from: StartingPoint | null): Promise<number> {
    return this.#serialized(async () => {
      for (;;) {
        const generation = this.#inForce() + 1;
        const held = await this.#append({ op: 'generation', id: newId(), generation, from });
        if (held) return generation;
      }
    });
  }

  /** Atomic: one journal entry, which holds only if no newer generation precedes it in the journal. */
  commitLatest(latest: LatestCheckpoint): Promise<void> {
    return this.#serialized(async () => {
      await this.#replay(false);
      const { generation, clock, folder } = latest;
      const held =
        generation === this.#inForce() &&
        (await this.#append({ op: 'latest', id: newId(), generation, clock, folder }));
      if (held) return;
      const inForce = this.#inForce();
      if (generation > inForce)
        throw new WhittleError('INTERNAL', `generation ${generation} was never taken; ${inForce} is in force`);
      throw new WhittleError(
        'STALE_GENERATION',
        `checkpoint ${folder} is of generation ${generation}, but ${inForce} is in force; leave the run to its new scheduler`,
        {
          data: { generation, inForce, folder },
        },
      );
    });
  }

  latest(): Promise<LatestCheckpoint | null> {
    return this.#serialized(async () => {
      await this.#replay(false);
      return this.#latest;
    });
  }

  lineage(): Promise<readonly GenerationRecord[]> {
    return this.#serialized(async () => {
      await this.#replay(false);
      return [...this.#generations];
    });
  }

  async close(): Promise<void> {
    await this.#queue.catch(() => undefined);
    await this.#handle.close();
  }

  #inForce(): number {
    return this.#generations.at(-1)?.generation ?? 0;
  }

  #serialized<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(operation, operation);
    this.#queue = result.catch(() => undefined);
    return result;
  }

  /** Appends one entry, makes it durable and answers whether it held. */
  async #append(written: Entry): Promise<boolean> {
    const line = Buffer.from(JSON.stringify(written) + '\n');
    try {
      // One write to a file opened for appending: lines of two writers do not mix.
      const { bytesWritten } = await this.#handle.write(line);
      if (bytesWritten < line.length) await this.#handle.write(line.subarray(bytesWritten));
      await this.#handle.sync();
    } catch (error) {
      await this.#cutTornTail();
      throw await diskError(this.path, line.length, error);
    }
    return (await this.#replay(false)).has(written.id);
  }

  /** After a write that failed half way: the next line must not start behind its remains. */
  async #cutTornTail(): Promise<void> {
    await this.#replay(true).catch(() => undefined);
  }

  /** Applies what the journal holds beyond what was replayed; answers the ids of the entries that held. */
  async #replay(cutTornTail: boolean): Promise<Set<string>> {
    const { size } = await this.#handle.stat();
    if (size > MAX_JOURNAL_BYTES)
      throw new WhittleError('CHECKPOINT', `${this.path} has ${size} bytes; it is not a coordination journal`);
    const text = Buffer.alloc(size - this.#replayed);
    let filled = 0;
    while (filled < text.length) {
      const { bytesRead } = await this.#handle.read(text, filled, text.length - filled, this.#replayed + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    const held = new Set<string>();
    let from = 0;
    for (let newline = text.indexOf(10); newline >= 0; newline = text.indexOf(10, from)) {
      const parsed = parseEntry(text.toString('utf8', from, newline));
      if (parsed === null) {
        // A crash can also leave a last line of the right length whose content never reached the disk.
        if (newline === filled - 1) break;
        throw new WhittleError(
          'CHECKPOINT',
          `${this.path} is damaged at byte ${this.#replayed + from}; restore it from a copy, or launch a new run from a checkpoint`,
        );
      }
      if (this.#apply(parsed)) held.add(parsed.id);
      from = newline + 1;
    }
    this.#replayed += from;
    if (cutTornTail && from < filled) {
      await this.#handle.truncate(this.#replayed);
      await this.#handle.sync();
    }
    return held;
  }

  #apply(applied: Entry): boolean {
    if (applied.op === 'generation') {
      if (applied.generation !== this.#inForce() + 1) return false;
      const { generation, from } = applied;
      this.#generations.push({ generation, from });
      this.#latest = from === null ? null : { generation, clock: from.clock, folder: from.checkpoint };
      return true;
    }
    const { generation, clock, folder } = applied;
    if (generation !== this.#inForce()) return false;
    if (clock >= (this.#latest?.clock ?? 0)) this.#latest = { generation, clock, folder };
    return true;
  }
}

function newId(): string {
  return randomBytes(8).toString('hex');
}

function parseEntry(line: string): Entry | null {
  try {
    const result = entry.safeParse(JSON.parse(line));
    return result.success ? result.data : null;
  } catch {
    return null;
  }
}
