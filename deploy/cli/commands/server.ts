import { runServer } from '../../../server/parameter-server/main.ts';
import { defineCommand } from '../command.ts';
import { memberOptions, runMember } from '../member.ts';
import { withEnvironment } from '../role-environment.ts';

export const command = defineCommand({
  name: 'server',
  description:
    'Run a parameter server of a run: it keeps a shard of the weights and masks. Launchers call it; you want `whittle launch`.',
  options: memberOptions,
  examples: [
    {
      command: 'server --scheduler 127.0.0.1:7000 --run-dir runs/lenet',
      effect: 'join the run whose scheduler listens there',
    },
  ],
  handler: async ({ options, signal }) => runMember(withEnvironment(options, 'server'), signal, runServer),
});
