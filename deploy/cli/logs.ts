import type { Role } from '../../shared/telemetry/run-status.ts';
import { formatLogLine } from '../../shared/telemetry/log.ts';

/** A line of one role's log file. */
export interface LogLine {
  readonly role: Role;
  readonly rank: number;
  /** As written. */
  readonly text: string;
  /** ISO time; a line without one (a crash of Node's) has that of the line before it. */
  readonly time: string;
}

/** Gives each line its time; `last` is the time of the line before the first. */
export function timedLines(role: Role, rank: number, lines: readonly string[], last = ''): LogLine[] {
  let time = last;
  return lines
    .filter((text) => text !== '')
    .map((text) => {
      time = timeOf(text) ?? time;
      return { role, rank, text, time };
    });
}

/** Merges lines by time. Lines of one role never change places, and lines of one time keep their roles together. */
export function mergeByTime(logs: readonly (readonly LogLine[])[]): LogLine[] {
  const order = logs.flatMap((lines, file) => {
    // A clock that was set back must not reorder a file against itself.
    let latest = '';
    return lines.map((line, index) => {
      if (line.time > latest) latest = line.time;
      return { line, at: latest, file, index };
    });
  });
  order.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : a.file - b.file || a.index - b.index));
  return order.map(({ line }) => line);
}

/** For people; a line that is not of the logger's is shown under its role. */
export function formatLine(line: LogLine): string {
  return timeOf(line.text) === null ? `${line.role}[${line.rank}] ${line.text}` : formatLogLine(line.text);
}

/** The line as JSON: as written, or wrapped where it is none. */
export function jsonOfLine(line: LogLine): unknown {
  if (timeOf(line.text) !== null) return JSON.parse(line.text) as unknown;
  return { level: 'info', time: line.time === '' ? null : line.time, role: line.role, rank: line.rank, msg: line.text };
}

function timeOf(text: string): string | null {
  if (!text.startsWith('{')) return null;
  try {
    const { time } = JSON.parse(text) as { readonly time?: unknown };
    return typeof time === 'string' ? time : null;
  } catch {
    return null;
  }
}
