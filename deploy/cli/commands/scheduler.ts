import { resolve } from 'node:path';
import { runScheduler } from '../../../server/scheduler/main.ts';
import { endLingering, roleSignal } from '../../launchers/role-signal.ts';
import { defineCommand } from '../command.ts';
import { required } from '../member.ts';

export const command = defineCommand({
  name: 'scheduler',
  description:
    'Run the scheduler of a run: membership, slices, mask updates, checkpoints. Launchers call it; you want `whittle launch`.\n' +
    'Prints one JSON line {"event":"listening","address":...,"generation":...} when it accepts members.',
  options: {
    runDir: { type: 'string', label: 'DIR', description: 'run directory; holds the effective run.yaml' },
    host: { type: 'string', label: 'ADDRESS', default: '127.0.0.1', description: 'address to listen on' },
    port: {
      type: 'integer',
      label: 'PORT',
      default: 0,
      min: 0,
      max: 65535,
      description: 'port to listen on; 0 takes a free one',
    },
    resume: {
      type: 'string',
      label: 'CHECKPOINT',
      description: 'continue from this checkpoint folder of the run, or from the newest usable one (`newest`)',
    },
    recover: {
      type: 'boolean',
      description: 'take the place of a scheduler that is gone: go on where the servers still hold the run',
    },
    rank: {
      type: 'integer',
      label: 'N',
      min: 0,
      default: 0,
      description: 'number among the schedulers of a run that has standbys; its log is logs/scheduler-N.log',
    },
  },
  examples: [
    {
      command: 'scheduler --run-dir runs/lenet --port 7000',
      effect: 'run the scheduler of a run whose servers and workers are started elsewhere',
    },
  ],
  handler: async ({ options, signal }) => {
    const role = roleSignal({ signal, scheduler: null });
    try {
      return await runScheduler({
        runDirectory: resolve(required(options.runDir, '--run-dir')),
        host: options.host,
        port: options.port,
        beginning: options.recover
          ? { kind: 'recover' }
          : options.resume === undefined
            ? { kind: 'launch' }
            : { kind: 'resume', folder: options.resume === 'newest' ? null : options.resume },
        rank: options.rank,
        signal: role.signal,
      });
    } finally {
      role.dispose();
      endLingering();
    }
  },
});
