import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { WhittleError } from '../../shared/errors.ts';
import { isCompiled } from '../../shared/package-root.ts';
import { defineLauncher } from './define.ts';
import type { LaunchedRun, Launcher, LaunchPlan, RunEnd } from './launcher.ts';
import { lastLines, readTail } from './role-process.ts';
import { cancelJob, isOver, killJob, submitJob } from './slurm-commands.ts';
import { jobScript } from './slurm-script.ts';
import { JobWatch } from './slurm-job-watch.ts';
import { givenSlurmOptions, slurmFlags, slurmOptions, type SlurmOptions } from './slurm-options.ts';
import { type JobReport, JobRecord } from './slurm-record.ts';
import { stopJob } from './slurm-queue.ts';

/** What `--on slurm` is. */
export const slurmLauncher = defineLauncher({
  name: 'slurm',
  summary: 'as one job of Slurm',
  options: slurmFlags,
  create: (flags) => createSlurmLauncher(givenSlurmOptions(flags)),
});

/**
 * Runs all roles in one batch job. The supervisor is the job's batch step and the roles are its other steps, so a run
 * needs nobody outside: this process only submits the job and follows it, from any host that shares the run directory.
 */
export function createSlurmLauncher(given: Partial<SlurmOptions>): Launcher {
  // Before anything is written.
  slurmOptions(given);
  const prepare = async (plan: LaunchPlan): Promise<{ options: SlurmOptions; script: string }> => {
    // A run that is resumed asks for what its last job asked for.
    const before = await new JobRecord(plan.runDirectory).request();
    const options = slurmOptions({ ...before?.options, ...given });
    const { runId, runDirectory } = plan;
    const command = supervisorCommand(runDirectory);
    return { options, script: jobScript({ runId, runDirectory, size: plan, options, command }) };
  };
  const submit = async (plan: LaunchPlan): Promise<string> => {
    const record = new JobRecord(plan.runDirectory);
    const { options, script } = await prepare(plan);
    await record.writeRequest({ plan, options }, script);
    const jobId = await submitJob(record.script);
    await record.writeJob({ jobId, submittedAt: new Date().toISOString() });
    return jobId;
  };
  return {
    name: 'slurm',
    preview: async (plan) => (await prepare(plan)).script,
    detach: async (plan) => {
      const jobId = await submit(plan);
      return { what: `job ${jobId} of Slurm`, data: { jobId } };
    },
    start: async (plan, signal, tell = () => undefined) => {
      const jobId = await submit(plan);
      tell(`submitted job ${jobId}`);
      return follow(plan, jobId, signal, tell);
    },
  };
}

/** The same Node and the same files as here: both must lie where the nodes see them under the same paths. */
function supervisorCommand(runDirectory: string): string[] {
  const main = fileURLToPath(import.meta.resolve(isCompiled ? './slurm-job-main.js' : './slurm-job-main.ts'));
  const loader = isCompiled ? [] : ['--import', import.meta.resolve('tsx')];
  return [process.execPath, ...loader, main, runDirectory];
}

/** Waits in the queue with the user; resolves when the job's supervisor has started the roles. */
async function follow(
  plan: LaunchPlan,
  jobId: string,
  signal: AbortSignal,
  tell: (line: string) => void,
): Promise<LaunchedRun> {
  const record = new JobRecord(plan.runDirectory);
  const watch = new JobWatch(jobId, tell);
  let report = await ownReport(record, jobId);
  while (report === null) {
    if (signal.aborted) {
      await cancelJob(jobId);
      throw new WhittleError('INTERRUPTED', `interrupted before the run started; job ${jobId} is cancelled`);
    }
    const over = isOver(await watch.look());
    report = await ownReport(record, jobId);
    if (report !== null) break;
    if (over) throw await endedEarly(record, jobId, watch);
    await watch.pause(signal);
  }
  if (report.event === 'failed') throw new WhittleError(report.code, report.message, { data: report.data });

  // A second Ctrl-C ends this process: then the job goes too. A closed terminal or a broken connection leaves it alone.
  const onExit = (): void => {
    if (signal.aborted) spawnSync('scancel', [jobId], { stdio: 'ignore', timeout: 10_000 });
  };
  process.on('exit', onExit);
  let newest = report;
  const ended = untilOver(watch, record, (next) => {
    if (next.event !== 'started') return;
    newest = next;
    tell(`job ${jobId} goes on, scheduler at ${next.schedulerAddress}`);
  }).finally(() => process.off('exit', onExit));
  return {
    // A job that was requeued has its scheduler elsewhere.
    get schedulerAddress() {
      return newest.schedulerAddress;
    },
    get generation() {
      return newest.generation;
    },
    get processes() {
      return newest.processes;
    },
    ended,
    mayBeginAgain: true,
    stop: async () => void (await stopJob(plan.runDirectory)),
    kill: () => void killJob(jobId).catch(() => undefined),
  };
}

async function ownReport(record: JobRecord, jobId: string): Promise<JobReport | null> {
  const report = await record.report();
  return report?.jobId === jobId ? report : null;
}

/** Resolves, never rejects, when Slurm is done with the job; hands on what its later starts report. */
async function untilOver(watch: JobWatch, record: JobRecord, onReport: (report: JobReport) => void): Promise<RunEnd> {
  const never = new AbortController().signal;
  for (let restart = 0; !isOver(await watch.look());) {
    const report = await ownReport(record, watch.jobId).catch(() => null);
    if (report !== null && report.restart > restart) {
      restart = report.restart;
      onReport(report);
    }
    await watch.pause(never);
  }
  const state = watch.last?.state ?? 'COMPLETED';
  const output = lastLines(await readTail(record.outputFile(watch.jobId)).catch(() => ''), 20);
  const code = state === 'COMPLETED' ? 0 : 1;
  return {
    schedulerExit: { code, signal: null },
    // Says more than the scheduler's exit where there is no result: CANCELLED, TIMEOUT, NODE_FAIL.
    loss:
      code === 0
        ? null
        : {
            role: 'scheduler',
            rank: 0,
            exit: { code, signal: null },
            output: [watch.describe(), ...output],
            schedulerEnded: true,
          },
  };
}

async function endedEarly(record: JobRecord, jobId: string, watch: JobWatch): Promise<WhittleError> {
  const output = lastLines(await readTail(record.outputFile(jobId)).catch(() => ''), 20);
  return new WhittleError(
    'ROLE_LOST',
    `the run did not start, and ${watch.describe()}; see ${record.outputFile(jobId)}${output.map((line) => `\n    ${line}`).join('')}`,
    { data: { jobId, ...watch.last, output } },
  );
}
