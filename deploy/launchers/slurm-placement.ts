import type { Role } from '../../shared/telemetry/run-status.ts';
import { formatGres, megabytes, parseGres, type SlurmOptions } from './slurm-options.ts';

export interface RunSize {
  readonly servers: number;
  readonly workers: number;
  /** Schedulers beside the first. */
  readonly standbys: number;
}

/**
 * The index of the node that a role runs on. Servers, and after them workers, go round the nodes from the second on,
 * so that their numbers differ by one at most: the first has the scheduler and the supervisor already. The same for
 * ever: a role that is started again finds its resources free there.
 */
export function nodeOf(role: Role, rank: number, nodes: number, servers: number): number {
  if (role === 'scheduler') return rank % nodes;
  return (1 + rank + (role === 'worker' ? servers : 0)) % nodes;
}

/** What one node must have for the roles that land on it: the most over all nodes. */
export interface NodeNeeds {
  readonly cpus: number;
  readonly megabytes: number | null;
  readonly gres: string | null;
}

export function nodeNeeds(size: RunSize, options: SlurmOptions): NodeNeeds {
  const { nodes, cpus, memory, gres } = options;
  const on = (node: number, role: Role, count: number): number =>
    Array.from({ length: count }, (_, rank) => nodeOf(role, rank, nodes, size.servers)).filter((each) => each === node)
      .length;
  const fullest = Array.from({ length: nodes }, (_, node) => {
    const schedulers = on(node, 'scheduler', 1 + size.standbys);
    const workers = on(node, 'worker', size.workers);
    const others = workers + on(node, 'server', size.servers);
    return { workers, cpus: schedulers + others * cpus, roles: schedulers + others };
  });
  const most = (key: 'workers' | 'cpus' | 'roles'): number => Math.max(...fullest.map((each) => each[key]));
  return {
    cpus: most('cpus'),
    megabytes: memory === null ? null : most('roles') * megabytes(memory),
    gres: gres === null ? null : formatGres(parseGres(gres), most('workers')),
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
