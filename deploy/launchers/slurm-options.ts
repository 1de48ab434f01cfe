import { WhittleError } from '../../shared/errors.ts';
import type { OptionValues } from '../cli/command.ts';
import type { LauncherOptionDefinitions } from './define.ts';

/** What a run asks of Slurm. Counts are for each role process; the job asks for what its fullest node needs. */
export interface SlurmOptions {
  readonly nodes: number;
  /** CPUs of each server and each worker; the scheduler has one. */
  readonly cpus: number;
  /** Memory of each role in Slurm's notation, such as `4G`. Null: what the partition gives. */
  readonly memory: string | null;
  /** Generic resources of each worker, such as `gpu:1`; servers and the scheduler get none. */
  readonly gres: string | null;
  /** In Slurm's notation, such as `30`, `2:00:00`, `1-12`. Null: the partition's own limit. */
  readonly time: string | null;
  readonly partition: string | null;
  readonly account: string | null;
  /** Further options of sbatch, each as after `#SBATCH`; they come last and so win. */
  readonly extra: readonly string[];
  /** Go on by itself when the job is preempted, its node fails, or its time is up. */
  readonly requeue: boolean;
}

export const SLURM_DEFAULTS: SlurmOptions = {
  nodes: 1,
  cpus: 2,
  memory: null,
  gres: null,
  time: null,
  partition: null,
  account: null,
  extra: [],
  requeue: true,
};

/** As options of `launch` and `resume`. */
export const slurmFlags = {
  nodes: { type: 'integer', label: 'N', min: 1, description: 'nodes to spread the roles over; default: 1' },
  cpus: { type: 'integer', label: 'N', min: 1, description: 'CPUs of each server and each worker; default: 2' },
  memory: {
    type: 'string',
    label: 'SIZE',
    description: "memory of each role, such as 4G; default: the partition's",
  },
  gres: {
    type: 'string',
    label: 'NAME[:TYPE][:N]',
    description: 'generic resources of each worker, such as gpu:1',
  },
  time: {
    type: 'string',
    label: 'TIME',
    description:
      "limit on the job's time, such as 2:00:00 or 1-12; 120 s before it the run checkpoints and goes back into the queue; default: the partition's",
  },
  partition: { type: 'string', label: 'NAME', description: "default: the cluster's" },
  account: { type: 'string', label: 'NAME', description: "what the job is charged to; default: the user's" },
  sbatch: {
    type: 'strings',
    label: 'OPTION',
    description: 'a further option of sbatch, such as --sbatch=--qos=high; repeatable',
  },
  noRequeue: { type: 'boolean', description: 'do not go on by itself after preemption, a lost node or the time limit' },
} as const satisfies LauncherOptionDefinitions;

/** What the command line gave, by the names of SlurmOptions; without what it did not say. */
export function givenSlurmOptions(flags: OptionValues<typeof slurmFlags>): Partial<SlurmOptions> {
  const { sbatch, noRequeue, ...given } = flags;
  return {
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    ...(sbatch.length === 0 ? {} : { extra: sbatch }),
    ...(noRequeue ? { requeue: false } : {}),
  };
}

/** Seconds before the end of the job's time at which Slurm sends SIGUSR1: time for a checkpoint. */
export const SIGNAL_SECONDS = 120;

const MEMORY = /^([1-9]\d*)([KMGT]?)$/i;
/** minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds */
const TIME = /^(\d+(:\d{1,2}){0,2}|\d+-\d{1,2}(:\d{1,2}){0,2})$/;
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.,@+-]*$/;

/** Completes and checks what the command line gave. Errors: USAGE, naming the option and the cure. */
export function slurmOptions(given: Partial<SlurmOptions>): SlurmOptions {
  const options = { ...SLURM_DEFAULTS, ...given };
  const refuse = (option: string, value: string, cure: string): never => {
    throw new WhittleError('USAGE', `--${option} is "${value}"; give ${cure}`, { data: { option, value } });
  };
  if (!Number.isInteger(options.nodes) || options.nodes < 1)
    refuse('nodes', String(options.nodes), 'a number of nodes from 1');
  if (!Number.isInteger(options.cpus) || options.cpus < 1)
    refuse('cpus', String(options.cpus), 'the CPUs of each role, from 1');
  if (options.memory !== null && !MEMORY.test(options.memory))
    refuse('memory', options.memory, 'a size such as 4G or 500M for each role');
  if (options.time !== null && !TIME.test(options.time))
    refuse('time', options.time, 'minutes, hours:minutes:seconds, or days-hours, such as 2:00:00');
  for (const option of ['partition', 'account'] as const) {
    const value = options[option];
    if (value !== null && !NAME.test(value)) refuse(option, value, `the name of a Slurm ${option}`);
  }
  if (options.gres !== null) parseGres(options.gres);
  for (const line of options.extra)
    if (!/^--?[A-Za-z][^\n\r]*$/.test(line))
      refuse('sbatch', line, 'one option of sbatch in one line, such as --sbatch=--qos=high');
  return options;
}

export interface Gres {
  /** `gpu` or `gpu:a100`. */
  readonly name: string;
  readonly count: number;
}

/** `gpu`, `gpu:2`, `gpu:a100:2`, or several with commas. Errors: USAGE. */
export function parseGres(text: string): Gres[] {
  return text.split(',').map((each) => {
    const [, name, count] = /^([A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?)(?::([1-9]\d*))?$/.exec(each) ?? [];
    if (name === undefined)
      throw new WhittleError(
        'USAGE',
        `--gres is "${text}"; give NAME[:TYPE][:COUNT] for each worker, such as gpu:1, several with commas`,
        { data: { option: 'gres', value: text } },
      );
    return { name, count: count === undefined ? 1 : Number(count) };
  });
}

export function formatGres(gres: readonly Gres[], times = 1): string {
  return gres.map(({ name, count }) => `${name}:${count * times}`).join(',');
}

/** Megabytes of a size in Slurm's notation (no unit: megabytes), rounded up. */
export function megabytes(memory: string): number {
  const [, count = '0', unit = ''] = MEMORY.exec(memory) ?? [];
  const factor = { '': 1, K: 1 / 1024, M: 1, G: 1024, T: 1024 * 1024 }[unit.toUpperCase()] ?? 1;
  return Math.ceil(Number(count) * factor);
}
