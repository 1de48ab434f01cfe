import { runWorker } from '../../../worker/main.ts';
import { defineCommand } from '../command.ts';
import { memberOptions, runMember } from '../member.ts';
import { withEnvironment } from '../role-environment.ts';

export const command = defineCommand({
  name: 'worker',
  description:
    'Run a worker of a run: it computes gradients of its slices. Launchers call it; you want `whittle launch`.',
  options: memberOptions,
  examples: [
    {
      command: 'worker --scheduler 127.0.0.1:7000 --run-dir runs/lenet',
      effect: 'join the run whose scheduler listens there',
    },
  ],
  handler: async ({ options, signal }) => runMember(withEnvironment(options, 'worker'), signal, runWorker),
});
