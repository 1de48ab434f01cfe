import type { Command } from './command.ts';

/** A command as the list of commands knows it; its file is imported only when it is called. */
export interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  readonly group: 'Commands:' | 'Role commands, called by launchers:';
  readonly load: () => Promise<{ readonly command: Command }>;
}

const user = 'Commands:';
const role = 'Role commands, called by launchers:';

/** Every command, in the order help lists them. Each file exports `command`. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'init',
    group: user,
    summary: 'write a commented run file, model and data module to start from',
    load: () => import('./commands/init.ts'),
  },
  {
    name: 'launch',
    group: user,
    summary: 'start a training run and follow it to its end',
    load: () => import('./commands/launch.ts'),
  },
  {
    name: 'resume',
    group: user,
    summary: 'continue a run from its latest checkpoint',
    load: () => import('./commands/resume.ts'),
  },
  { name: 'status', group: user, summary: 'show where a run stands', load: () => import('./commands/status.ts') },
  {
    name: 'logs',
    group: user,
    summary: "show a run's logs, merged or of one role",
    load: () => import('./commands/logs.ts'),
  },
  { name: 'stop', group: user, summary: 'checkpoint a run and stop it', load: () => import('./commands/stop.ts') },
  { name: 'list', group: user, summary: 'list the runs of a folder', load: () => import('./commands/list.ts') },
  {
    name: 'inspect',
    group: user,
    summary: 'show the layers, sparsity and digests of a checkpoint',
    load: () => import('./commands/inspect.ts'),
  },
  {
    name: 'evaluate',
    group: user,
    summary: 'evaluate a checkpoint on the test set',
    load: () => import('./commands/evaluate.ts'),
  },
  {
    name: 'sensitivity',
    group: user,
    summary: 'show which layers bear pruning: accuracy against sparsity',
    load: () => import('./commands/sensitivity.ts'),
  },
  {
    name: 'export',
    group: user,
    summary: 'export a checkpoint as a TensorFlow.js, safetensors or ONNX model',
    load: () => import('./commands/export.ts'),
  },
  {
    name: 'schedule',
    group: user,
    summary: "show a run file's sparsity by step, as table and curve",
    load: () => import('./commands/schedule.ts'),
  },
  { name: 'config', group: user, summary: 'print the effective run file', load: () => import('./commands/config.ts') },
  {
    name: 'doctor',
    group: user,
    summary: 'check that this machine can train',
    load: () => import('./commands/doctor.ts'),
  },
  {
    name: 'certs',
    group: user,
    summary: "make a run's certificates and token",
    load: () => import('./commands/certs.ts'),
  },
  {
    name: 'scheduler',
    group: role,
    summary: 'run the scheduler of a run',
    load: () => import('./commands/scheduler.ts'),
  },
  {
    name: 'server',
    group: role,
    summary: 'run a parameter server of a run',
    load: () => import('./commands/server.ts'),
  },
  { name: 'worker', group: role, summary: 'run a worker of a run', load: () => import('./commands/worker.ts') },
  {
    name: 'role',
    group: role,
    summary: 'run the role that the environment names (TF_CONFIG, DMLC_*, SLURM_*)',
    load: () => import('./commands/role.ts'),
  },
];
