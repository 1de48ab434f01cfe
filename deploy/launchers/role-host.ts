import type { Role } from '../../shared/telemetry/run-status.ts';
import type { RoleProcess } from './role-process.ts';

/** One role to start; what it is told comes from the supervisor, where it listens from its host. */
export interface RoleStart {
  readonly role: Role;
  readonly rank: number;
  /** What follows the role's command, without `--host`. */
  readonly args: readonly string[];
  /** Where its stdout and stderr are appended. */
  readonly outputFile: string;
}

/** How a launcher starts one process of a run; everything else about a run is the supervisor's. */
export interface RoleHost {
  /** Rejects when the process cannot be started. It must end when this process does, however that ends. */
  start(start: RoleStart): Promise<RoleProcess>;
}

/** Milliseconds. */
export interface SuperviseDeadlines {
  /** From the scheduler's start to its "listening" line. */
  readonly listening: number;
  /** From a role's unexpected end until the scheduler must have ended the run. */
  readonly loss: number;
  /** The same for a role that left with code 0, which may only be early. */
  readonly leave: number;
  /** From the scheduler's end until the roles must have left. */
  readonly leaving: number;
  /** From SIGTERM to SIGKILL. */
  readonly terminate: number;
  /** From a role's first death to its start; twice as long after each further one, up to 10 s. */
  readonly backoff: number;
}
