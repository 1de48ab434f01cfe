import { setTimeout as sleep } from 'node:timers/promises';
import { WhittleError } from '../../shared/errors.ts';
import { commandLine } from '../../shared/invocation.ts';
import { cancelJob, isOver, jobState, type JobState } from './slurm-commands.ts';
import { JobRecord } from './slurm-record.ts';

/** Slurm's own limit on the end of a job's processes is KillWait, 30 s by default. */
const COMPLETING_SECONDS = 60;

export interface QueuedJob extends JobState {
  readonly jobId: string;
}

/**
 * The run's job as Slurm has it, or null: none, or it is over, or there is no Slurm here.
 * Errors: DEADLINE where Slurm does not answer.
 */
export async function queuedJob(runDirectory: string): Promise<QueuedJob | null> {
  const job = await new JobRecord(runDirectory).job();
  if (job === null) return null;
  const state = await jobState(job.jobId).catch((error: unknown) => {
    if (WhittleError.from(error).code === 'USAGE') return null;
    throw error;
  });
  return state === null || isOver(state) ? null : { jobId: job.jobId, ...state };
}

/**
 * Ends the run's job in order, from any host of the cluster: one that waits is cancelled, in one that runs the
 * supervisor is told to checkpoint and stop. Resolves to the job as it was, or null where there is none to end.
 */
export async function stopJob(runDirectory: string): Promise<QueuedJob | null> {
  const job = await queuedJob(runDirectory);
  if (job === null) return null;
  // Suspended, or requeued and on its way back: nobody there who could answer a signal.
  await (job.state === 'RUNNING' ? cancelJob(job.jobId, 'TERM') : cancelJob(job.jobId));
  return job;
}

/** Waits until the run has no job in Slurm, or `seconds` are over, or it is in a state that will not end by itself. */
export async function untilNoJob(
  runDirectory: string,
  seconds: number,
  ends: (state: string) => boolean = () => true,
): Promise<QueuedJob | null> {
  for (const end = Date.now() + 1000 * seconds; ; await sleep(500)) {
    const job = await queuedJob(runDirectory);
    if (job === null || Date.now() >= end || !ends(job.state)) return job;
  }
}

/** A job that waits would begin beside whatever is started now. Errors: RUN_LOCKED; DEADLINE where Slurm does not answer. */
export async function requireNoJob(runDirectory: string): Promise<void> {
  const job = await untilNoJob(runDirectory, COMPLETING_SECONDS, (state) => state === 'COMPLETING');
  if (job === null) return;
  throw new WhittleError(
    'RUN_LOCKED',
    `the run in ${runDirectory} has a job in Slurm, and ${describeJob(job)}; end it with: ${commandLine('stop', runDirectory)}`,
    { data: { ...job } },
  );
}

/** `job 42 is PENDING (Resources)`. */
export function describeJob({ jobId, state, reason, nodes }: QueuedJob): string {
  const why = reason === 'None' || reason === '' ? '' : ` (${reason})`;
  return `job ${jobId} is ${state}${why}${state === 'RUNNING' ? ` on ${nodes}` : ''}`;
}

/** The run's job while it waits in the queue; null for any other run, and where Slurm cannot be asked. */
export async function waitingJob(runDirectory: string): Promise<{ readonly job: QueuedJob } | null> {
  const job = await queuedJob(runDirectory).catch(() => null);
  return job === null || job.state === 'RUNNING' || job.state === 'COMPLETING' ? null : { job };
}
