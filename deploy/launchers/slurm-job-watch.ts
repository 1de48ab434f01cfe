import { setTimeout as sleep } from 'node:timers/promises';
import { WhittleError } from '../../shared/errors.ts';
import { type JobState, jobState } from './slurm-commands.ts';
import { describeJob } from './slurm-queue.ts';

/** Milliseconds between questions to the controller, which serves the whole cluster: often at first, seldom later. */
const FIRST_PAUSE = 500;
const LAST_PAUSE = 5_000;
const PAUSE_GROWTH = 1.2;

/** Follows one job's state and tells each change in a line. */
export class JobWatch {
  readonly jobId: string;
  /** As last seen; null: Slurm does not know the job any more. */
  last: JobState | null = null;
  readonly #tell: (line: string) => void;
  readonly #ask: (jobId: string) => Promise<JobState | null>;
  #told = '';
  #silent = false;
  #pause = FIRST_PAUSE;

  constructor(
    jobId: string,
    tell: (line: string) => void,
    ask: (jobId: string) => Promise<JobState | null> = jobState,
  ) {
    this.jobId = jobId;
    this.#tell = tell;
    this.#ask = ask;
  }

  /** The job's state now, or as last known where the controller does not answer. */
  async look(): Promise<JobState | null> {
    try {
      const state = await this.#ask(this.jobId);
      this.#silent = false;
      // A job that Slurm has forgotten keeps its last known end.
      if (state !== null) this.last = state;
      else if (this.last !== null) this.last = { ...this.last, state: 'COMPLETED', reason: 'None' };
      this.#tellChange();
      return state;
    } catch (error) {
      if (!this.#silent) this.#tell(`${WhittleError.from(error).rawMessage}; asking again`);
      this.#silent = true;
      return this.last ?? { state: 'UNKNOWN', reason: 'None', nodes: '' };
    }
  }

  /** Until the next look; ends early when `signal` is aborted. */
  async pause(signal: AbortSignal): Promise<void> {
    await sleep(this.#pause, undefined, { signal }).catch(() => undefined);
    this.#pause = Math.min(LAST_PAUSE, this.#pause * PAUSE_GROWTH);
  }

  /** `job 42 is PENDING (Resources)`. */
  describe(): string {
    if (this.last === null) return `job ${this.jobId} is unknown to Slurm`;
    return describeJob({ jobId: this.jobId, ...this.last });
  }

  #tellChange(): void {
    const now = this.describe();
    if (now === this.#told) return;
    this.#told = now;
    this.#pause = FIRST_PAUSE;
    this.#tell(now);
  }
}
