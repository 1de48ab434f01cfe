import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { RunResult } from '../../../shared/telemetry/run-status.ts';
import { WHITTLE } from '../../cluster/support.ts';
import { runFileOf, runIdOf, teacherOf, type Cell } from './cells.ts';

/** The run's result, or why there is none. */
export type CellOutcome = { readonly result: RunResult } | { readonly failure: string };

/**
 * Runs one cell through the command line: launches it, or goes on where an interrupted run of it left off. `isOver`:
 * asked whether the user ended the whole command, so that nothing is begun after that.
 */
export async function runCell(
  cell: Cell,
  runsDirectory: string,
  isOver: () => boolean,
  onPid: (pid: number | undefined) => void,
): Promise<CellOutcome> {
  const runId = runIdOf(cell);
  const directory = join(runsDirectory, runId);
  const teacher = teacherOf(cell);
  const taught = teacher && join(runsDirectory, runIdOf(teacher));
  if (taught && !existsSync(taught)) return { failure: `needs the run of its teacher, which is not in ${taught}` };
  if (existsSync(directory)) {
    const resumed = await whittle(['resume', directory, '--json'], onPid);
    if ('result' in resumed || isOver()) return resumed;
    // Nothing to go on from, or it was ended before its first checkpoint.
    await rm(directory, { recursive: true, force: true });
  }
  const files = join(runsDirectory, 'files');
  await mkdir(files, { recursive: true });
  const file = join(files, `${runId}.yaml`);
  await writeFile(file, stringify(runFileOf(cell, taught ?? '')));
  return whittle(['launch', file, '--runs-dir', runsDirectory, '--run-id', runId, '--json'], onPid);
}

function whittle(args: readonly string[], onPid: (pid: number | undefined) => void): Promise<CellOutcome> {
  const child = spawn(process.execPath, [WHITTLE, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1' },
  });
  onPid(child.pid);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr = `${stderr}${chunk.toString()}`.slice(-4000)));
  return new Promise((resolve) => {
    child.on('close', (code) => {
      onPid(undefined);
      resolve(outcome(code, stdout, stderr));
    });
  });
}

function outcome(code: number | null, stdout: string, stderr: string): CellOutcome {
  const last = stdout.trim().split('\n').at(-1) ?? '';
  if (code === 0 && last.startsWith('{')) return { result: JSON.parse(last) as RunResult };
  const told = stderr
    .trim()
    .split('\n')
    .filter((line) => line.trim() !== '');
  return { failure: told.slice(-6).join('\n') || `ended with exit code ${code}` };
}
