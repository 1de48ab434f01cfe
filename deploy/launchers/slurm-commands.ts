import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { WhittleError } from '../../shared/errors.ts';

/** Milliseconds. A busy controller answers late; Slurm's own MessageTimeout is 10 s. */
const COMMAND_DEADLINE = 60_000;

const run = promisify(execFile);

export interface JobState {
  /** Slurm's name: PENDING, RUNNING, COMPLETING, CANCELLED, ... */
  readonly state: string;
  /** Why it is in that state: Resources, Priority, TimeLimit, ...; `None` where there is nothing to say. */
  readonly reason: string;
  /** Slurm's short form, such as `n[1-3]`; empty before the start. */
  readonly nodes: string;
}

const OVER: ReadonlySet<string> = new Set([
  'BOOT_FAIL',
  'CANCELLED',
  'COMPLETED',
  'DEADLINE',
  'FAILED',
  'NODE_FAIL',
  'OUT_OF_MEMORY',
  'PREEMPTED',
  'REVOKED',
  'TIMEOUT',
]);

/** True when a job in this state does not run and will not run again. */
export function isOver(job: JobState | null): boolean {
  return job === null || OVER.has(job.state);
}

/** Submits a job script; resolves to the job's id. Errors: USAGE where there is no Slurm or it refuses the job. */
export async function submitJob(script: string): Promise<string> {
  const stdout = await slurm('sbatch', ['--parsable', script], (message) => ({
    code: 'USAGE',
    message: `Slurm refused the job: ${message}; see ${script}`,
  }));
  // id, or id;cluster
  const id = stdout.trim().split(';')[0] ?? '';
  if (!/^\d+$/.test(id))
    throw new WhittleError('PROTOCOL', `sbatch answered ${JSON.stringify(stdout)}; no job id in it`);
  return id;
}

/** Where a job stands, or null when Slurm does not know it (any more). Errors: DEADLINE where Slurm does not answer. */
export async function jobState(jobId: string): Promise<JobState | null> {
  const format = '--format=%T|%r|%N';
  try {
    return parseJobState(await slurm('squeue', ['--noheader', '--states=all', `--jobs=${jobId}`, format]));
  } catch (error) {
    if (/invalid job id/i.test(WhittleError.from(error).message)) return null;
    throw error;
  }
}

export function parseJobState(line: string): JobState | null {
  const [state, reason = 'None', nodes = ''] = line.trim().split('|');
  return state === undefined || state === '' ? null : { state, reason, nodes };
}

/**
 * Ends a job: SIGTERM to its processes, SIGKILL after Slurm's KillWait (30 s by default). With `signal`, that signal
 * goes to the batch shell only and the job goes on.
 */
export async function cancelJob(jobId: string, signal?: string): Promise<void> {
  await slurm('scancel', signal === undefined ? [jobId] : ['--batch', `--signal=${signal}`, jobId]);
}

/** Ends a job at once: cancelled first, so that it is not started again, then killed without waiting for KillWait. */
export async function killJob(jobId: string): Promise<void> {
  await cancelJob(jobId);
  await slurm('scancel', ['--full', '--signal=KILL', jobId]);
}

/** Sends a signal to one step of a job: `SIGKILL` to all its processes, others to its task. A step that is over is none. */
export async function signalStep(jobId: string, stepName: string, signal: string): Promise<void> {
  const steps = await slurm('squeue', ['--noheader', '--steps', `--jobs=${jobId}`, '--format=%i|%j']);
  for (const id of stepsNamed(steps, stepName)) await slurm('scancel', [`--signal=${signal.replace(/^SIG/, '')}`, id]);
}

export function stepsNamed(steps: string, name: string): string[] {
  return steps
    .split('\n')
    .map((line) => line.trim().split('|'))
    .flatMap(([id, each]) => (id !== undefined && each === name ? [id] : []));
}

/** Puts a job back into the queue; it starts again with SLURM_RESTART_COUNT one higher. */
export async function requeueJob(jobId: string): Promise<void> {
  await slurm('scontrol', ['requeue', jobId]);
}

export interface SlurmNode {
  /** What srun calls it. */
  readonly name: string;
  /** Where the other nodes reach it. */
  readonly address: string;
}

/** The nodes of a list in Slurm's short form, in its order. */
export async function nodesOf(nodeList: string): Promise<SlurmNode[]> {
  const names = (await slurm('scontrol', ['show', 'hostnames', nodeList])).split('\n').filter((name) => name !== '');
  const shown = await slurm('scontrol', ['show', 'nodes', '--oneliner', nodeList]);
  const addresses = parseNodeAddresses(shown);
  return names.map((name) => ({ name, address: addresses.get(name) ?? name }));
}

export function parseNodeAddresses(shown: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of shown.split('\n')) {
    const [, name] = /\bNodeName=(\S+)/.exec(line) ?? [];
    const [, address] = /\bNodeAddr=(\S+)/.exec(line) ?? [];
    if (name !== undefined && address !== undefined && address !== '(null)') found.set(name, address);
  }
  return found;
}

interface Refused {
  readonly code: 'USAGE' | 'DEADLINE';
  readonly message: string;
}
type Refusal = (message: string) => Refused;

/** What a command of Slurm's said that did not get to the cluster at all, with the cure; null for any other word. */
export function outOfReach(command: string, told: string): Refused | null {
  if (/establish a configuration source|unable to process configuration file/i.test(told))
    return {
      code: 'USAGE',
      message: `this host is not set up for Slurm (${command}: ${lastOf(told)}); go to a host that may submit jobs, or set SLURM_CONF to the cluster's slurm.conf`,
    };
  if (/unable to contact slurm controller/i.test(told))
    return {
      code: 'DEADLINE',
      message: `Slurm's controller does not answer (${command}: ${lastOf(told)}); \`scontrol ping\` tells when it does, then try again`,
    };
  return null;
}

/** The last of several messages, without the command and its severity. */
function lastOf(told: string): string {
  return (told.split('; ').at(-1) ?? told).replace(/^\w+: ((error|fatal): )?/, '');
}

async function slurm(command: string, args: readonly string[], refusal?: Refusal): Promise<string> {
  try {
    const { stdout } = await run(command, args, { timeout: COMMAND_DEADLINE, maxBuffer: 16 << 20 });
    return stdout;
  } catch (cause) {
    const { code, stderr = '', message } = cause as Error & { code?: unknown; stderr?: string };
    if (code === 'ENOENT')
      throw new WhittleError(
        'USAGE',
        `there is no ${command} here; --on slurm needs the commands of Slurm on a host that may submit jobs`,
        { cause },
      );
    const told = stderr.trim() === '' ? message : stderr.trim().replaceAll('\n', '; ');
    const { code: error, message: text } = outOfReach(command, told) ??
      refusal?.(told) ?? { code: 'DEADLINE' as const, message: `${command} failed: ${told}` };
    throw new WhittleError(error, text, { cause, data: { command, args }, retryable: error === 'DEADLINE' });
  }
}
