import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Role } from './run-status.ts';
import type { HistoryEvent } from './history-records.ts';

/** Folder of a run directory that holds the histories, one file a process. */
export const HISTORY_FOLDER = 'history';
/** Switches history on for a process where the run file does not. */
export const HISTORY_VARIABLE = 'WHITTLE_HISTORY';

/** Where a role writes down what it does; does nothing where history is off. */
export interface History {
  /** On the way to the disk when it returns: the end of the process loses nothing that was recorded. Never throws. */
  record(event: HistoryEvent): void;
  /** False: what would only be computed for a record need not be. */
  readonly isOn: boolean;
  close(): void;
}

export const NO_HISTORY: History = { record: () => undefined, isOn: false, close: () => undefined };

export interface HistoryOptions {
  readonly runDirectory: string;
  readonly role: Role;
  readonly rank: number;
  /** `history: true` of the run file. */
  readonly enabled: boolean;
}

/**
 * Opens `history/<role>-<rank>-<pid>.jsonl` for appending. Each record is one line and one write to a file opened
 * for appending, so threads of a process may each open it: lines do not mix and stand in the order of the writes.
 */
export function openHistory(options: HistoryOptions): History {
  if (!options.enabled && process.env[HISTORY_VARIABLE] !== '1') return NO_HISTORY;
  const folder = join(options.runDirectory, HISTORY_FOLDER);
  mkdirSync(folder, { recursive: true });
  let file: number | null = openSync(join(folder, historyFile(options.role, options.rank, process.pid)), 'a');
  return {
    isOn: true,
    record(event) {
      if (file === null) return;
      try {
        writeSync(file, `${JSON.stringify({ at: Date.now(), ...event })}\n`);
      } catch {
        // A full disk must not end the run: the checker sees the gap.
      }
    },
    close() {
      if (file !== null) closeSync(file);
      file = null;
    },
  };
}

function historyFile(role: Role, rank: number, pid: number): string {
  return `${role}-${rank}-${pid}.jsonl`;
}
