import type { RunConfig } from '../../shared/config/types.ts';
import type { Role } from '../../shared/telemetry/run-status.ts';

/** What a launcher needs to know to start the roles of a run; the rest they read from the run directory. */
export interface LaunchPlan {
  readonly runId: string;
  /** Absolute; holds the effective `run.yaml`. */
  readonly runDirectory: string;
  readonly servers: number;
  /** Workers to start, and the least number with which the run goes on. */
  readonly workers: number;
  readonly minWorkers: number;
  /** Schedulers that wait to take over, elected by way of etcd. */
  readonly standbys: number;
  /** How many roles that died may be started again, over the whole run. 0: the first death ends it. */
  readonly maxRestarts: number;
  /** Address the roles listen on, and the scheduler's port (0: any free one). */
  readonly host: string;
  readonly port: number;
  /** A checkpoint folder to continue from (null: the newest usable one), or null for a new run. */
  readonly resume: { readonly folder: string | null } | null;
  /** Additions to the environment of a role's process, by `role[rank]`. */
  readonly environment?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/**
 * Starts a run's processes somewhere: on this machine, in a batch system, in a cluster. One file a launcher,
 * beside this one.
 */
export interface Launcher {
  /** What `--on` says. */
  readonly name: string;
  /**
   * Resolves when the scheduler accepts members and all roles are started. Rejects, with nothing left
   * running, when a process cannot be started or the scheduler is not ready within its deadline, and when
   * `signal` is aborted meanwhile (INTERRUPTED). Later aborts of `signal` are the caller's affair: it asks
   * the scheduler to stop, or calls `kill`. `tell` hears in one line each what the launcher does by itself: what it
   * waits for, which role it started again.
   */
  start(plan: LaunchPlan, signal: AbortSignal, tell?: (line: string) => void): Promise<LaunchedRun>;
  /** What would be handed to the batch system or cluster, for `--dry-run`. Absent: nothing but processes. */
  readonly preview?: (plan: LaunchPlan, config: RunConfig) => string | Promise<string>;
  /**
   * Hands the run over to where it is supervised and returns. Absent: the run needs a supervisor here, which then
   * goes into the background.
   */
  readonly detach?: (plan: LaunchPlan) => Promise<DetachedRun>;
}

export interface DetachedRun {
  /** Such as `job 42 of Slurm`. */
  readonly what: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface LaunchedRun {
  /** host:port of the scheduler. */
  readonly schedulerAddress: string;
  readonly generation: number;
  /** Those that run now: one that was started again has a new pid. 0: not a process of a machine that this one could name. */
  readonly processes: readonly { readonly role: Role; readonly rank: number; readonly pid: number }[];
  /** Resolves, never rejects, when every process has ended and is reaped. */
  readonly ended: Promise<RunEnd>;
  /** After a status that says the run has ended it may begin again: a batch system put it back into its queue. */
  readonly mayBeginAgain?: boolean;
  /** Asks the run to checkpoint and stop, where that is not a matter of asking its scheduler. */
  readonly stop?: () => Promise<void>;
  /** Ends every process at once; `ended` resolves soon after. */
  kill(): void;
}

export interface RunEnd {
  readonly schedulerExit: RoleExit;
  /** The first process that ended when it should not have. */
  readonly loss: RoleLoss | null;
}

export interface RoleExit {
  /** Null when a signal ended the process. */
  readonly code: number | null;
  readonly signal: string | null;
}

export interface RoleLoss {
  readonly role: Role;
  readonly rank: number;
  readonly exit: RoleExit;
  /** Last lines that the process wrote to stdout and stderr. */
  readonly output: readonly string[];
  /** False where the launcher had to end the run because the scheduler did not. */
  readonly schedulerEnded: boolean;
}

/** `exited with code 3`, `was killed by SIGKILL (by hand, or by the system for want of memory)`. */
export function describeExit(exit: RoleExit): string {
  if (exit.signal === 'SIGKILL') return 'was killed by SIGKILL (by hand, or by the system for want of memory)';
  if (exit.signal !== null) return `was killed by ${exit.signal}`;
  return `exited with code ${exit.code ?? 'unknown'}`;
}
