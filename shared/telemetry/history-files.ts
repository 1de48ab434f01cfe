import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../checkpoint/durable.ts';
import { HISTORY_FOLDER } from './history.ts';
import type { HistoryRecord, ProcessHistory } from './history-records.ts';
import type { Role } from './run-status.ts';

/** All histories of a run directory; none where history was off. A last line torn by the end of a process is left out. */
export async function readHistories(runDirectory: string): Promise<ProcessHistory[]> {
  const folder = join(runDirectory, HISTORY_FOLDER);
  const names = await readdir(folder).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  });
  const found: ProcessHistory[] = [];
  for (const name of names.sort()) {
    const [, role, rank, pid] = /^(scheduler|server|worker)-(\d+)-(\d+)\.jsonl$/.exec(name) ?? [];
    if (role === undefined) continue;
    const text = await readFile(join(folder, name), 'utf8');
    const lines = text.split('\n').slice(0, -1);
    const records = lines.map((line) => JSON.parse(line) as HistoryRecord);
    found.push({ role: role as Role, rank: Number(rank), pid: Number(pid), records });
  }
  return found;
}
