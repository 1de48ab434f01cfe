import { isIPv4 } from 'node:net';
import { constants } from 'node:os';
import type { RoleExit } from './launcher.ts';
import { type RoleProcess, startRole } from './role-process.ts';
import { LEAVES_ON_INTERRUPT } from './role-signal.ts';
import { type SlurmNode, signalStep } from './slurm-commands.ts';
import type { SlurmOptions } from './slurm-options.ts';
import { nodeOf, stepOptions } from './slurm-placement.ts';
import type { RoleHost } from './role-host.ts';

/** What srun exits with for an error of Slurm's own, so that it is not taken for a role that failed (1). */
export const SLURM_ERROR_CODE = 200;

/** Set for the batch step, these would be taken for what a role's own step asks for, or contradict it. */
const JOB_WIDE =
  /^(SLURM|SRUN)_(MEM_PER_\w+|CPUS_PER_\w+|NTASKS\w*|NPROCS|TRES_PER_\w+|GPUS?\w*|GRES\w*|DISTRIBUTION)$/;

export interface SlurmHostOptions {
  readonly jobId: string;
  /** The job's nodes, in Slurm's order. */
  readonly nodes: readonly SlurmNode[];
  readonly options: SlurmOptions;
  /** Servers of the run: workers are placed after them. */
  readonly servers: number;
  /** What follows `node` before the role command and its arguments. */
  readonly entry: readonly string[];
  readonly signal?: typeof signalStep;
}

/** Starts each role as a step of the job that this process is the batch step of. */
export function createSlurmHost(host: SlurmHostOptions): RoleHost {
  let starts = 0;
  return {
    start: async ({ role, rank, args, outputFile }) => {
      const node = host.nodes[nodeOf(role, rank, host.nodes.length, host.servers)];
      if (node === undefined) throw new Error(`the job has no node for ${role}[${rank}]`);
      // Differs at every start, so that a signal never hits a successor.
      const stepName = `${role}-${rank}.${++starts}`;
      const started = await startRole({
        role,
        rank,
        command: 'srun',
        argv: [
          ...stepOptions(role, node.name, stepName, host.options),
          process.execPath,
          ...host.entry,
          role,
          ...listenOptions(node, host.nodes),
          ...args,
        ],
        outputFile,
      });
      return asStep(started, (signal) => (host.signal ?? signalStep)(host.jobId, stepName, signal));
    },
  };
}

/** A role on one machine listens on loopback; else on all addresses, and tells the others its node's. */
export function listenOptions(node: SlurmNode, nodes: readonly SlurmNode[]): string[] {
  if (nodes.length === 1 || nodes.every(({ address }) => isLoopback(address))) return ['--host', '127.0.0.1'];
  return ['--host', '0.0.0.0', '--advertise', node.address];
}

function isLoopback(address: string): boolean {
  return address === 'localhost' || address === '::1' || (isIPv4(address) && address.startsWith('127.'));
}

/**
 * srun stands for the role it started: its exit is the role's. Signals go to the step by way of Slurm, since srun keeps
 * SIGTERM to itself and ends the step, and a SIGKILL leaves the step running.
 */
function asStep(srun: RoleProcess, send: (signal: string) => Promise<void>): RoleProcess {
  const exit = srun.exit.then(roleExit);
  let ended: RoleExit | null = null;
  void exit.then((value) => (ended = value));
  return {
    ...srun,
    exit,
    ended: () => ended,
    kill: (signal) => {
      if (srun.ended() !== null) return;
      // A step that cannot be reached ends with the job; one that srun still waits for before it began ends with srun.
      send(signal === 'SIGTERM' ? 'SIGINT' : signal).catch(() => srun.kill(signal));
      if (signal === 'SIGKILL') setTimeout(() => srun.kill(signal), KILL_DEADLINE).unref();
    },
  };
}

/** Milliseconds that a step may take to be over after SIGKILL before its srun is ended too. */
const KILL_DEADLINE = 10_000;

/** srun exits with 128 + n where signal n ended its task. */
export function roleExit({ code, signal }: RoleExit): RoleExit {
  if (code === null || code <= 128 || code === SLURM_ERROR_CODE) return { code, signal };
  const [name] = Object.entries(constants.signals).find(([, number]) => number === code - 128) ?? [];
  return name === undefined ? { code, signal } : { code: null, signal: name };
}

/** The environment that roles' sruns are started in: that of the job, without what was meant for the whole job. */
export function stepEnvironment(env: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> {
  return {
    ...Object.fromEntries(Object.entries(env).filter(([name]) => !JOB_WIDE.test(name))),
    SLURM_EXIT_ERROR: String(SLURM_ERROR_CODE),
    [LEAVES_ON_INTERRUPT]: '1',
  };
}
