import { setTimeout as sleep } from 'node:timers/promises';
import { ERROR_CODES, type ErrorCode, WhittleError } from '../../shared/errors.ts';
import { describeExit } from './launcher.ts';
import { lastLines, type RoleProcess } from './role-process.ts';

/**
 * Where a scheduler accepts members, from its "listening" line. Errors: what it printed before it ended, ROLE_LOST,
 * DEADLINE after so many milliseconds, INTERRUPTED.
 */
export async function waitForListening(
  scheduler: RoleProcess,
  deadline: number,
  signal: AbortSignal,
): Promise<{ address: string; generation: number }> {
  for (const end = Date.now() + deadline; ; await sleep(20)) {
    throwIfInterrupted(signal);
    const exit = scheduler.ended();
    const output = await scheduler.output();
    const found = findListening(output);
    if (found !== null) return found;
    const tail = lastLines(output, 20);
    if (exit !== null) {
      const told = findError(tail);
      if (told !== null) throw told;
      throw new WhittleError(
        'ROLE_LOST',
        `scheduler[0] ${describeExit(exit)} before it accepted members${indented(tail)}`,
        {
          data: { role: 'scheduler', rank: 0, ...exit, output: tail },
        },
      );
    }
    if (Date.now() > end) {
      throw new WhittleError(
        'DEADLINE',
        `waited ${deadline / 1000} s for scheduler[0] to accept members (its "listening" line)${indented(tail)}`,
        { data: { role: 'scheduler', rank: 0, output: tail } },
      );
    }
  }
}

/** The scheduler's `{"event":"listening",...}` line, among whatever else was printed. */
export function findListening(output: string): { address: string; generation: number } | null {
  // The last piece may be half a line.
  for (const line of output.split('\n').slice(0, -1)) {
    if (!line.startsWith('{')) continue;
    try {
      const value = JSON.parse(line) as Record<string, unknown>;
      if (value['event'] === 'listening' && typeof value['address'] === 'string') {
        return { address: value['address'], generation: Number(value['generation'] ?? 0) };
      }
    } catch {
      continue;
    }
  }
  return null;
}

/** The error that a role of ours printed before it ended, with its code: what the user can mend stays a user's error. */
export function findError(lines: readonly string[]): WhittleError | null {
  for (const [i, line] of lines.entries()) {
    const [, code = '', message = ''] = /^error: \[([A-Z_]+)\] (.*)$/.exec(line) ?? [];
    if (!Object.hasOwn(ERROR_CODES, code)) continue;
    return new WhittleError(code as ErrorCode, message, {
      data: { role: 'scheduler', rank: 0, stack: lines.slice(i + 1).join('\n') },
    });
  }
  return null;
}

export function throwIfInterrupted(signal: AbortSignal): void {
  if (signal.aborted)
    throw new WhittleError(
      'INTERRUPTED',
      'interrupted while the run was starting; nothing was started that still runs',
    );
}

function indented(lines: readonly string[]): string {
  return lines.length === 0
    ? '; it printed nothing'
    : `; its last output:\n${lines.map((line) => `    ${line}`).join('\n')}`;
}
