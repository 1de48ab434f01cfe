import type { Role } from '../../shared/telemetry/run-status.ts';
import { formatGres, megabytes, parseGres, type SlurmOptions } from './slurm-options.ts';

export interface RunSize {
  readonly servers: number;
  readonly workers: number;
}

/**
 * The index of the node that a role runs on. Servers and workers go round the nodes so that their numbers differ by
 * one at most; the scheduler sits beside the supervisor on the first. The same for ever: a role that is started again
 * finds its resources free there.
 */
export function nodeOf(role: Role, rank: number, nodes: number): number {
  if (role === 'scheduler') return 0;
  // Servers fill from the second node on and workers from the last backwards: the first has the scheduler already.
  return role === 'server' ? (rank + 1) % nodes : nodes - 1 - (rank % nodes);
}

/** What one node must have for the roles that land on it: the most over all nodes. */
export interface NodeNeeds {
  readonly cpus: number;
  readonly megabytes: number | null;
  readonly gres: string | null;
}

export function nodeNeeds(size: RunSize, options: SlurmOptions): NodeNeeds {
  const { nodes, cpus, memory, gres } = options;
  const workers = new Array<number>(nodes).fill(0);
  const roles = new Array<number>(nodes).fill(0);
  const place = (counts: number[], role: Role, rank: number): void => {
    const node = nodeOf(role, rank, nodes);
    counts[node] = (counts[node] ?? 0) + 1;
  };
  for (let rank = 0; rank < size.servers; rank++) place(roles, 'server', rank);
  for (let rank = 0; rank < size.workers; rank++) {
    place(roles, 'worker', rank);
    place(workers, 'worker', rank);
  }
  const on = (node: number): number => (node === 0 ? 1 : 0);
  return {
    cpus: Math.max(...roles.map((count, node) => count * cpus + on(node))),
    megabytes: memory === null ? null : Math.max(...roles.map((count, node) => (count + on(node)) * megabytes(memory))),
    gres: gres === null ? null : formatGres(parseGres(gres), Math.max(...workers)),
  };
}

/**
 * The options of the srun that starts one role.
 *
 * `--overlap` lets steps share what they do not use up, and also generic resources: two workers of a node would both be
 * given its first GPU. So a worker with `gres` overlaps nothing; `--exact` and the memory keep the steps beside each
 * other, and one that is started again waits for its predecessor's resources.
 */
export function stepOptions(role: Role, node: string, stepName: string, options: SlurmOptions): string[] {
  const { cpus, memory, gres } = options;
  const own = gres !== null && role === 'worker';
  return [
    ...(own ? [] : ['--overlap']),
    '--exact',
    '--nodes=1',
    '--ntasks=1',
    `--cpus-per-task=${role === 'scheduler' ? 1 : cpus}`,
    // Zero: whatever the job has, counted against no other step.
    `--mem=${memory === null ? '0' : `${megabytes(memory)}M`}`,
    ...(gres === null ? [] : [`--gres=${own ? formatGres(parseGres(gres)) : 'none'}`]),
    `--nodelist=${node}`,
    `--job-name=${stepName}`,
    // The supervisor decides what the end of a role means.
    '--kill-on-bad-exit=0',
    '--unbuffered',
  ];
}
