import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from '../../shared/checkpoint/durable.ts';
import type { ErrorCode } from '../../shared/errors.ts';
import type { LaunchedRun, LaunchPlan } from './launcher.ts';
import type { SlurmOptions } from './slurm-options.ts';

/** What a run keeps of its job, `slurm/` in the run directory: who submits writes, the job reads, and the reverse. */
const FOLDER = 'slurm';

/** `request.json`: what the supervisor in the job must run. Written before the job is submitted. */
export interface JobRequest {
  readonly plan: LaunchPlan;
  readonly options: SlurmOptions;
}

/** `job.json`: the newest job of the run. Written when Slurm has taken it. */
export interface SubmittedJob {
  readonly jobId: string;
  readonly submittedAt: string;
}

/** `started.json`: what the job's supervisor had to say, once for each time that the job was started. */
export type JobReport = {
  readonly jobId: string;
  /** How often Slurm has started the job before: SLURM_RESTART_COUNT. */
  readonly restart: number;
} & (
  | ({ readonly event: 'started' } & Pick<LaunchedRun, 'schedulerAddress' | 'generation' | 'processes'>)
  | {
      readonly event: 'failed';
      readonly code: ErrorCode;
      readonly message: string;
      readonly data: Readonly<Record<string, unknown>>;
    }
);

export class JobRecord {
  readonly folder: string;
  readonly script: string;
  readonly #logs: string;

  constructor(runDirectory: string) {
    this.folder = join(runDirectory, FOLDER);
    this.script = join(this.folder, 'job.sh');
    this.#logs = join(runDirectory, 'logs');
  }

  /** What the job's batch step printed; a restarted job adds to it. */
  outputFile(jobId: string): string {
    return join(this.#logs, `slurm-${jobId}.out`);
  }

  async writeRequest(request: JobRequest, script: string): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    await this.#write('request.json', `${JSON.stringify(request, null, 2)}\n`);
    await this.#write('job.sh', script);
  }

  request(): Promise<JobRequest | null> {
    return this.#read<JobRequest>('request.json');
  }

  writeJob(job: SubmittedJob): Promise<void> {
    return this.#write('job.json', `${JSON.stringify(job)}\n`);
  }

  job(): Promise<SubmittedJob | null> {
    return this.#read<SubmittedJob>('job.json');
  }

  writeReport(report: JobReport): Promise<void> {
    return this.#write('started.json', `${JSON.stringify(report)}\n`);
  }

  report(): Promise<JobReport | null> {
    return this.#read<JobReport>('started.json');
  }

  #write(name: string, text: string): Promise<void> {
    const bytes = Buffer.from(text);
    return writeDurably(join(this.folder, name), bytes.length, (sink) => sink(bytes));
  }

  async #read<T>(name: string): Promise<T | null> {
    const text = await readFile(join(this.folder, name), 'utf8').catch(() => null);
    return text === null ? null : (JSON.parse(text) as T);
  }
}
