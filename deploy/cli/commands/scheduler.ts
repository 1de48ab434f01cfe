import { resolve } from 'node:path';
import { runScheduler } from '../../../server/scheduler/main.ts';
import { endLingering, roleSignal } from '../../launchers/role-signal.ts';
import { defineCommand } from '../command.ts';
import { required } from '../member.ts';
import { withEnvironment } from '../role-environment.ts';

export const command = defineCommand({
  name: 'scheduler',
  description:
    'Run the scheduler of a run: membership, slices, mask updates, checkpoints. Launchers call it; you want `whittle launch`.\n' +
    'Prints one JSON line {"event":"listening","address":...,"generation":...} when it accepts members.',
  options: {
    runDir: { type: 'string', label: 'DIR', description: 'run directory; holds the effective run.yaml' },
    host: { type: 'string', label: 'ADDRESS', description: 'address to listen on; default: 127.0.0.1' },
    port: {
      type: 'integer',
      label: 'PORT',
      min: 0,
      max: 65535,
      description: 'port to listen on; default: 0, which takes a free one',
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
      description:
        'number among the schedulers of a run that has standbys, 0 if not given; its log is logs/scheduler-N.log',
    },
  },
  examples: [
    {
      command: 'scheduler --run-dir runs/lenet --port 7000',
      effect: 'run the scheduler of a run whose servers and workers are started elsewhere',
    },
  ],
  handler: async ({ options: given, signal }) => {
    const options = withEnvironment(given, 'scheduler');
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
        rank: options.rank ?? 0,
        signal: role.signal,
      });
    } finally {
      role.dispose();
      endLingering();
    }
  },
});
