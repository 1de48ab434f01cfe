import { cancelJob, isOver, jobState, type JobState } from './slurm-commands.ts';
import { JobRecord } from './slurm-record.ts';

export interface QueuedJob extends JobState {
  readonly jobId: string;
}

/** The run's job as Slurm has it, or null: none, or it is over. Errors: USAGE without Slurm, DEADLINE where it does not answer. */
export async function queuedJob(runDirectory: string): Promise<QueuedJob | null> {
  const job = await new JobRecord(runDirectory).job();
  if (job === null) return null;
  const state = await jobState(job.jobId);
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

/** `job 42 is PENDING (Resources)`. */
export function describeJob({ jobId, state, reason, nodes }: QueuedJob): string {
  const why = reason === 'None' || reason === '' ? '' : ` (${reason})`;
  return `job ${jobId} is ${state}${why}${state === 'RUNNING' ? ` on ${nodes}` : ''}`;
}
