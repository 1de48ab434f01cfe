import { appendFile, mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { RunResult } from '../../../shared/telemetry/run-status.ts';
import { whittleVersion } from '../../../shared/version.ts';
import { cellId, runIdOf, type Cell } from './cells.ts';

/** A finished cell: one line of the results file. */
export interface CellRecord extends Cell {
  /** The run's id, which tells the recipe. */
  readonly runId: string;
  readonly whittleVersion: string;
  readonly finishedAt: string;
  readonly testAccuracy: number;
  readonly testLoss: number | null;
  readonly achievedSparsity: number;
  readonly bytesPerStep: number | null;
  readonly wallSeconds: number;
  readonly maskDigest: string | null;
  readonly weightsDigest: string | null;
}

/** Null where the run did not come to its end or has no accuracy. */
export function recordOf(cell: Cell, result: RunResult): CellRecord | null {
  if (result.state !== 'SUCCEEDED' || result.testAccuracy === null) return null;
  return {
    ...cell,
    runId: runIdOf(cell),
    whittleVersion,
    finishedAt: new Date().toISOString(),
    testAccuracy: result.testAccuracy,
    testLoss: result.testLoss,
    achievedSparsity: result.sparsity,
    bytesPerStep: result.bytesPerStep,
    wallSeconds: result.wallSeconds,
    maskDigest: result.maskDigest,
    weightsDigest: result.weightsDigest,
  };
}

/** What is known of each cell by its id: the newest line of its present recipe. A torn last line is left out. */
export function parseRecords(text: string, cells: readonly Cell[]): Map<string, CellRecord> {
  const wanted = new Map(cells.map((cell) => [runIdOf(cell), cellId(cell)]));
  const found = new Map<string, CellRecord>();
  for (const line of text.split('\n')) {
    const record = parse(line);
    const id = record === null ? undefined : wanted.get(record.runId);
    if (record && id !== undefined) found.set(id, record);
  }
  return found;
}

function parse(line: string): CellRecord | null {
  try {
    return JSON.parse(line) as CellRecord;
  } catch {
    return null;
  }
}

export async function readRecords(file: string, cells: readonly Cell[]): Promise<Map<string, CellRecord>> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  return parseRecords(text, cells);
}

/** The line begins with a line break where the last one was torn, so that it stands alone. */
export async function appendRecord(file: string, record: CellRecord): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  const before = await readFile(file, 'utf8').catch(() => '');
  await appendFile(file, `${before === '' || before.endsWith('\n') ? '' : '\n'}${JSON.stringify(record)}\n`);
}
