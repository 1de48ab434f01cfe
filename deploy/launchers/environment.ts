import { z } from 'zod';
import { WhittleError } from '../../shared/errors.ts';
import type { Role } from '../../shared/telemetry/run-status.ts';

/** What an environment says about this process; null where it says nothing. */
export interface RolePlace {
  readonly role: Role | null;
  readonly rank: number | null;
  /** Address of the scheduler, `host:port`. */
  readonly scheduler: string | null;
  /** Where this role is to listen, as others name it. */
  readonly listen: { readonly host: string; readonly port: number } | null;
  readonly servers: number | null;
  readonly workers: number | null;
}

/** How many roles a batch job holds: task 0 is the scheduler, then come servers, then workers. */
export interface RoleLayout {
  readonly servers: number;
  readonly workers: number;
}

type Environment = Readonly<Record<string, string | undefined>>;
interface Found {
  /** Variable that said so. */
  readonly by: string;
  readonly place: RolePlace;
}

const NOTHING: RolePlace = { role: null, rank: null, scheduler: null, listen: null, servers: null, workers: null };

/**
 * Role, rank and addresses of this process by the environments that other launchers set: TF_CONFIG (TensorFlow),
 * DMLC_* (ps-lite, MXNet) and, where a layout is given, SLURM_PROCID. Errors: USAGE for a value that is wrong, and for
 * two variables that contradict each other, naming both.
 */
export function readRoleEnvironment(env: Environment, layout: RoleLayout | null = null): RolePlace {
  const found = [fromTensorFlow(env), fromDmlc(env), layout === null ? null : fromSlurm(env, layout)].filter(
    (each) => each !== null,
  );
  return found.reduce<Found>(merge, { by: '', place: NOTHING }).place;
}

/** Throws USAGE where an environment names another role than the command does. */
export function requireRole(place: RolePlace, role: Role): void {
  if (place.role !== null && place.role !== role)
    throw new WhittleError(
      'USAGE',
      `this is \`whittle ${role}\`, and the environment (TF_CONFIG, DMLC_ROLE) says ${place.role}; call \`whittle role\`, which takes the role from there, or unset it`,
      { data: { role, environment: place.role } },
    );
}

const addresses = z.array(z.string().regex(/^.+:\d{1,5}$/, { error: 'must be host:port' }));
const tensorFlow = z.object({
  cluster: z.object({
    chief: addresses.optional(),
    master: addresses.optional(),
    ps: addresses.optional(),
    worker: addresses.optional(),
  }),
  task: z.object({
    type: z.enum(['chief', 'master', 'ps', 'worker'], {
      error: ({ input }) => `is ${JSON.stringify(input)}; Whittle knows chief (the scheduler), ps and worker`,
    }),
    index: z.coerce.number().int().min(0).default(0),
  }),
});

function fromTensorFlow(env: Environment): Found | null {
  const text = env['TF_CONFIG'];
  if (text === undefined || text.trim() === '') return null;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new WhittleError('USAGE', `TF_CONFIG is no JSON: ${(cause as Error).message}`, { cause });
  }
  const parsed = tensorFlow.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new WhittleError('USAGE', `TF_CONFIG: ${issue?.path.join('.') ?? ''} ${issue?.message ?? 'is wrong'}`);
  }
  const { cluster, task } = parsed.data;
  const chief = cluster.chief ?? cluster.master ?? [];
  const role = task.type === 'ps' ? 'server' : task.type === 'worker' ? 'worker' : 'scheduler';
  const own = { scheduler: chief, server: cluster.ps ?? [], worker: cluster.worker ?? [] }[role];
  const address = own[task.index];
  if (address === undefined)
    throw new WhittleError(
      'USAGE',
      `TF_CONFIG: task.index is ${task.index}, and cluster.${task.type} has ${own.length} addresses`,
    );
  const colon = address.lastIndexOf(':');
  return {
    by: 'TF_CONFIG',
    place: {
      role,
      rank: task.index,
      scheduler: chief[0] ?? null,
      listen: { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) },
      servers: cluster.ps?.length ?? null,
      workers: cluster.worker?.length ?? null,
    },
  };
}

function fromDmlc(env: Environment): Found | null {
  const role = env['DMLC_ROLE'];
  const host = env['DMLC_PS_ROOT_URI'];
  const port = whole(env, 'DMLC_PS_ROOT_PORT', 65535);
  if (role === undefined && host === undefined) return null;
  if (role !== undefined && role !== 'scheduler' && role !== 'server' && role !== 'worker')
    throw new WhittleError('USAGE', `DMLC_ROLE is "${role}"; it is scheduler, server or worker`);
  if ((host === undefined) !== (port === null))
    throw new WhittleError('USAGE', 'DMLC_PS_ROOT_URI and DMLC_PS_ROOT_PORT name the scheduler together; set both');
  const root = host === undefined || port === null ? null : { host, port };
  return {
    by: 'DMLC_ROLE',
    place: {
      role: role ?? null,
      // ps-lite gives ranks by who comes first, and so does the scheduler here.
      rank: whole(env, 'DMLC_RANK', 1023) ?? (role === 'scheduler' ? 0 : null),
      scheduler: root === null ? null : `${root.host}:${root.port}`,
      listen: role === 'scheduler' ? root : null,
      servers: whole(env, 'DMLC_NUM_SERVER', 1024),
      workers: whole(env, 'DMLC_NUM_WORKER', 1024),
    },
  };
}

function fromSlurm(env: Environment, { servers, workers }: RoleLayout): Found | null {
  const task = whole(env, 'SLURM_PROCID', Number.MAX_SAFE_INTEGER);
  if (task === null) return null;
  const tasks = whole(env, 'SLURM_NTASKS', Number.MAX_SAFE_INTEGER);
  const wanted = 1 + servers + workers;
  if ((tasks ?? wanted) !== wanted || task >= wanted)
    throw new WhittleError(
      'USAGE',
      tasks === null
        ? `SLURM_PROCID is ${task}, and --servers ${servers} --workers ${workers} with the scheduler are tasks 0 to ${wanted - 1}`
        : `SLURM_NTASKS is ${tasks}, and --servers ${servers} --workers ${workers} with the scheduler are ${wanted} tasks; give srun --ntasks=${wanted}`,
    );
  const role = task === 0 ? 'scheduler' : task <= servers ? 'server' : 'worker';
  const rank = task === 0 ? 0 : task <= servers ? task - 1 : task - 1 - servers;
  return { by: 'SLURM_PROCID', place: { ...NOTHING, role, rank, servers, workers } };
}

function merge(first: Found, second: Found): Found {
  const agree = <T>(what: string, a: T | null, b: T | null): T | null => {
    if (a !== null && b !== null && a !== b)
      throw new WhittleError(
        'USAGE',
        `${first.by} says ${what} ${String(a)}, and ${second.by} says ${what} ${String(b)}; unset one of them`,
      );
    return a ?? b;
  };
  const [a, b] = [first.place, second.place];
  return {
    by: first.by === '' ? second.by : first.by,
    place: {
      role: agree('role', a.role, b.role),
      rank: agree('rank', a.rank, b.rank),
      scheduler: agree('scheduler', a.scheduler, b.scheduler),
      listen: a.listen ?? b.listen,
      servers: agree('servers', a.servers, b.servers),
      workers: agree('workers', a.workers, b.workers),
    },
  };
}

function whole(env: Environment, name: string, max: number): number | null {
  const text = env[name];
  if (text === undefined || text === '') return null;
  if (!/^\d+$/.test(text) || Number(text) > max)
    throw new WhittleError('USAGE', `${name} is "${text}"; it must be a whole number from 0 to ${max}`);
  return Number(text);
}
