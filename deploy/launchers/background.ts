import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ErrorCode, WhittleError } from '../../shared/errors.ts';
import { isCompiled } from '../../shared/package-root.ts';
import type { LauncherOptions } from './define.ts';
import type { LaunchedRun, LaunchPlan } from './launcher.ts';

/** What a detached run needs, as JSON in the arguments of background-main. */
export interface BackgroundJob {
  readonly launcher: string;
  readonly launcherOptions: LauncherOptions;
  readonly plan: LaunchPlan;
}

/** What background-main says to whom started it, once. */
export type BackgroundReport =
  | {
      readonly event: 'started';
      readonly pid: number;
      readonly schedulerAddress: string;
      readonly processes: LaunchedRun['processes'];
    }
  | {
      readonly event: 'failed';
      readonly code: ErrorCode;
      readonly message: string;
      readonly data: Readonly<Record<string, unknown>>;
    };

/**
 * Starts a run under a supervisor of its own that outlives this process and its terminal. Resolves when all roles
 * are started. The supervisor writes to `logs/launcher.out`. Errors: what starting the run gave.
 */
export async function startInBackground(job: BackgroundJob): Promise<Extract<BackgroundReport, { event: 'started' }>> {
  const logs = join(job.plan.runDirectory, 'logs');
  mkdirSync(logs, { recursive: true });
  const outputFile = join(logs, 'launcher.out');
  const output = openSync(outputFile, 'a');
  const main = fileURLToPath(import.meta.resolve(isCompiled ? './background-main.js' : './background-main.ts'));
  const loader = isCompiled ? [] : ['--import', import.meta.resolve('tsx')];
  const child = spawn(process.execPath, [...loader, main, JSON.stringify(job)], {
    detached: true,
    stdio: ['ignore', output, output, 'ipc'],
  });
  closeSync(output);
  try {
    const report = await new Promise<BackgroundReport>((resolve, reject) => {
      child.once('message', (message) => resolve(message as BackgroundReport));
      child.once('error', (cause) =>
        reject(new WhittleError('ROLE_LOST', `the run's supervisor could not be started: ${cause.message}`, { cause })),
      );
      child.once('exit', (code, signal) =>
        reject(
          new WhittleError(
            'ROLE_LOST',
            `the run's supervisor ended (${signal ?? `code ${code ?? 'unknown'}`}) before the run started; see ${outputFile}`,
          ),
        ),
      );
    });
    if (report.event === 'failed') throw new WhittleError(report.code, report.message, { data: report.data });
    return report;
  } finally {
    if (child.connected) child.disconnect();
    child.unref();
  }
}
