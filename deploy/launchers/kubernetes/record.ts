import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from '../../../shared/checkpoint/durable.ts';

const RECORD_FILE = 'kubernetes.json';

/** Where a run is that was launched from here: the run directory here only keeps this, its run file and its result. */
export interface ClusterRecord {
  readonly runId: string;
  readonly context: string;
  readonly namespace: string;
  readonly jobSet: string;
  /** Of the volume that has the run's checkpoints. */
  readonly claim: string;
}

export async function writeClusterRecord(runDirectory: string, record: ClusterRecord): Promise<void> {
  const bytes = Buffer.from(`${JSON.stringify(record, null, 2)}\n`);
  await writeDurably(join(runDirectory, RECORD_FILE), bytes.length, (sink) => sink(bytes));
}

/** Null: the run was never launched on a cluster from here. */
export async function readClusterRecord(runDirectory: string): Promise<ClusterRecord | null> {
  const text = await readFile(join(runDirectory, RECORD_FILE), 'utf8').catch(() => null);
  return text === null ? null : (JSON.parse(text) as ClusterRecord);
}
