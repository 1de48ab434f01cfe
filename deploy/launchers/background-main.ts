/** The supervisor of a detached run: `node background-main '{"launcher":"local","launcherOptions":{},"plan":{...}}'`. */
import { WhittleError } from '../../shared/errors.ts';
import type { BackgroundJob, BackgroundReport } from './background.ts';
import { executeRun, exitCodeOf } from './execute.ts';
import { launcherOf } from './registry.ts';

const job = JSON.parse(process.argv[2] ?? '{}') as BackgroundJob;
const controller = new AbortController();
process.on('SIGTERM', () => controller.abort());
process.on('SIGINT', () => controller.abort());
// The terminal that started this may go.
process.on('SIGHUP', () => undefined);

function report(message: BackgroundReport): void {
  if (process.connected) process.send?.(message, () => process.disconnect());
}

try {
  const result = await executeRun(launcherOf(job.launcher, job.launcherOptions), job.plan, {
    signal: controller.signal,
    onNotice: (line) => process.stderr.write(`${new Date().toISOString()} ${line}\n`),
    onStarted: ({ schedulerAddress, processes }) =>
      report({ event: 'started', pid: process.pid, schedulerAddress, processes }),
  });
  // A scheduler that failed at once wrote a result instead of listening.
  const failure = result.failure;
  if (process.connected)
    report({
      event: 'failed',
      code: 'ROLE_LOST',
      message: failure?.message ?? `the run ended ${result.state}`,
      data: { ...failure },
    });
  process.stdout.write(`${JSON.stringify(result)}\n`);
  process.exitCode = exitCodeOf(result);
} catch (reason) {
  const error = WhittleError.from(reason);
  process.stderr.write(`${error.stack ?? error.message}\n`);
  report({ event: 'failed', code: error.code, message: error.rawMessage, data: error.data });
  process.exitCode = error.exitCode;
}
