import assert from 'node:assert/strict';
import { RunDirectory } from '../../../shared/telemetry/run-directory.ts';
import type { RunResult } from '../../../shared/telemetry/run-status.ts';
import { assertQuiet, type Ended, lastJson, whittle } from '../support.ts';

/** More steps than any of these runs lives. */
export const ENDLESS = 100_000;

export function launchArgs(folder: string, runFile: string, runId = 'run'): string[] {
  return ['launch', runFile, '--runs-dir', folder, '--run-id', runId, '--json'];
}

/** The result of a run that failed: exit code 1, the failure and how to go on for people, nothing left behind. */
export async function assertFailed(end: Ended, runDirectory: string, code: string): Promise<RunResult> {
  assert.equal(end.code, 1, `${end.stderr}\n${end.stdout}`);
  const result = lastJson<RunResult>(end);
  assert.equal(result.state, 'FAILED');
  assert.equal(result.failure?.code, code, JSON.stringify(result.failure));
  assert.ok(end.stderr.includes(`[${code}] `), end.stderr);
  assert.ok(end.stderr.includes(`whittle resume ${runDirectory}`), `says how to go on:\n${end.stderr}`);
  await assertQuiet(runDirectory);
  return result;
}

/** A user's mistake: exit code 2, no stack, no run directory. */
export async function assertRefused(
  args: readonly string[],
  folder: string,
  messages: readonly (string | RegExp)[],
): Promise<void> {
  const end = await whittle(args);
  assert.equal(end.code, 2, `${end.stderr}\n${end.stdout}`);
  for (const message of messages) {
    assert.ok(
      typeof message === 'string' ? end.stderr.includes(message) : message.test(end.stderr),
      `${message} in:\n${end.stderr}`,
    );
  }
  assert.ok(!/^ {4}at /m.test(end.stderr), `no stack:\n${end.stderr}`);
  assert.deepEqual(await RunDirectory.list(folder), [], 'nothing was started');
}

export async function resumable(runDirectory: string): Promise<number> {
  const end = await whittle(['resume', runDirectory, '--dry-run', '--json']);
  assert.equal(end.code, 0, end.stderr);
  return lastJson<{ resumedFrom: number }>(end).resumedFrom;
}
