import { appendFile, readFile, stat, truncate } from 'node:fs/promises';
import { diskError, errorCode, writeDurably } from '../checkpoint/durable.ts';
import type { StepMetrics } from './run-status.ts';

const FLUSH_MILLISECONDS = 200;

/** `metrics.jsonl`: one line a step, in step order, appended in batches in the background. */
export class MetricsFile {
  readonly path: string;
  #lines: string[] = [];
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();
  #failure: Error | undefined;

  constructor(path: string) {
    this.path = path;
  }

  /** Takes records without waiting. They are on their way to the file within 0.2 s, or at `flush`. */
  append(records: readonly StepMetrics[]): void {
    for (const record of records) this.#lines.push(`${JSON.stringify(record)}\n`);
    if (this.#lines.length > 0) this.#timer ??= setTimeout(() => void this.#start(), FLUSH_MILLISECONDS).unref();
  }

  /** Resolves when all records are written; rejects with DISK if a write failed since the last flush. */
  async flush(): Promise<void> {
    await this.#start();
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /** Cuts back to the clock of a restored checkpoint: lines of later steps go, whole file or nothing. */
  async truncate(step: number): Promise<void> {
    await this.flush();
    const text = await this.#text();
    const kept = parseLines(text).filter(({ record }) => record.step <= step);
    const bytes = Buffer.from(kept.map(({ line }) => `${line}\n`).join(''));
    if (bytes.length === Buffer.byteLength(text)) return;
    await writeDurably(this.path, bytes.length, (sink) => sink(bytes));
  }

  /** All whole lines; none if there is no file. A line cut off by a crash is left out. */
  async read(): Promise<StepMetrics[]> {
    return parseLines(await this.#text()).map(({ record }) => record);
  }

  #start(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const text = this.#lines.join('');
    this.#lines = [];
    if (text !== '') {
      this.#writing = this.#writing.then(async () => {
        const before = await stat(this.path).then(
          (stats) => stats.size,
          () => 0,
        );
        try {
          await appendFile(this.path, text);
        } catch (error) {
          this.#failure ??= await diskError(this.path, text.length, error);
          // On a full disk: what got there goes again, and all of it is written when there is space.
          await truncate(this.path, before).catch(() => undefined);
          this.#lines.unshift(text);
        }
      });
    }
    return this.#writing;
  }

  async #text(): Promise<string> {
    try {
      return await readFile(this.path, 'utf8');
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return '';
      throw await diskError(this.path, 0, error);
    }
  }
}

function parseLines(text: string): { line: string; record: StepMetrics }[] {
  const found: { line: string; record: StepMetrics }[] = [];
  for (const line of text.split('\n')) {
    try {
      const record = JSON.parse(line) as StepMetrics;
      if (Number.isInteger(record.step)) found.push({ line, record });
    } catch {
      // Empty, or torn by a crash in the middle of a write.
    }
  }
  return found;
}
