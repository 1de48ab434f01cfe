import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { diskError, errorCode, syncFolder } from '../checkpoint/durable.ts';
import { WhittleError } from '../errors.ts';
import type { GenerationRecord, LatestCheckpoint } from './coordinator.ts';

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

/**
 * The journal of a run directory, one JSON object a line. Its order decides: a writer appends an entry, syncs it, and
 * then reads the journal on to see whether the entry held. A `generation` entry holds only if it is one more than the
 * generation in force at its place, a `latest` entry only if it names that generation. So an entry that lost a race
 * is in the journal but has no effect, for every reader alike.
 *
 * Not for concurrent calls: its owner makes them one after another.
 */
export class Journal {
  readonly path: string;
  readonly #runDirectory: string;
  #handle: FileHandle | null = null;
  #isWritable = false;
  /** Bytes of the journal already replayed; always the start of a line. */
  #replayed = 0;
  #generations: GenerationRecord[] = [];
  #latest: LatestCheckpoint | null = null;

  constructor(runDirectory: string) {
    this.#runDirectory = runDirectory;
    this.path = join(runDirectory, JOURNAL_FILE);
  }

  /** As of the last `read` or `append`. */
  get generations(): readonly GenerationRecord[] {
    return this.#generations;
  }
  get latest(): LatestCheckpoint | null {
    return this.#latest;
  }
  get inForce(): number {
    return this.#generations.at(-1)?.generation ?? 0;
  }

  /** Changes nothing. Errors: CHECKPOINT when a line before the last is damaged; DISK. */
  async read(): Promise<void> {
    if (this.#handle === null) {
      this.#handle = await open(this.path, 'r').catch(async (error: unknown) => {
        if (errorCode(error) === 'ENOENT') return null;
        throw await diskError(this.path, 0, error);
      });
    }
    if (this.#handle !== null) await this.#replay(false);
  }

  /** Appends one entry, makes it durable and answers whether it held. Errors: as of `read`. */
  async append(written: Entry): Promise<boolean> {
    const handle = await this.#writable();
    const line = Buffer.from(JSON.stringify(written) + '\n');
    try {
      // One write to a file opened for appending: lines of two writers do not mix.
      const { bytesWritten } = await handle.write(line);
      if (bytesWritten < line.length) await handle.write(line.subarray(bytesWritten));
      await handle.sync();
    } catch (error) {
      // The next line must not start behind the remains of this one.
      await this.#replay(true).catch(() => undefined);
      throw await diskError(this.path, line.length, error);
    }
    return (await this.#replay(false)).has(written.id);
  }

  async close(): Promise<void> {
    await this.#handle?.close();
    this.#handle = null;
    this.#isWritable = false;
  }

  /** Opens or starts the journal. A last line torn by a crash is cut off: its operation never returned. */
  async #writable(): Promise<FileHandle> {
    if (this.#handle !== null && this.#isWritable) return this.#handle;
    await this.close();
    try {
      this.#handle = await open(this.path, 'a+');
      await syncFolder(this.#runDirectory);
    } catch (error) {
      throw await diskError(this.path, 0, error);
    }
    await this.#replay(true);
    this.#isWritable = true;
    return this.#handle;
  }

  /** Applies what the journal holds beyond what was replayed; answers the ids of the entries that held. */
  async #replay(cutTornTail: boolean): Promise<Set<string>> {
    const handle = this.#handle!;
    const { size } = await handle.stat();
    if (size > MAX_JOURNAL_BYTES)
      throw new WhittleError('CHECKPOINT', `${this.path} has ${size} bytes; it is not a coordination journal`);
    const text = Buffer.alloc(Math.max(0, size - this.#replayed));
    let filled = 0;
    while (filled < text.length) {
      const { bytesRead } = await handle.read(text, filled, text.length - filled, this.#replayed + filled);
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
      await handle.truncate(this.#replayed);
      await handle.sync();
    }
    return held;
  }

  #apply(applied: Entry): boolean {
    if (applied.op === 'generation') {
      if (applied.generation !== this.inForce + 1) return false;
      const { generation, from } = applied;
      this.#generations.push({ generation, from });
      this.#latest = from === null ? null : { generation, clock: from.clock, folder: from.checkpoint };
      return true;
    }
    const { generation, clock, folder } = applied;
    if (generation !== this.inForce) return false;
    if (clock >= (this.#latest?.clock ?? 0)) this.#latest = { generation, clock, folder };
    return true;
  }
}

function parseEntry(line: string): Entry | null {
  try {
    const result = entry.safeParse(JSON.parse(line));
    return result.success ? result.data : null;
  } catch {
    return null;
  }
}
