import { defineCommand, setOption } from '../command.ts';

export const command = defineCommand({
  name: 'config',
  description:
    'Print the effective run file: every default filled in, paths absolute, epochs and percentages as steps.',
  arguments: { file: { label: 'run.yaml', description: 'the run file' } },
  options: { set: setOption },
  examples: [
    { command: 'config run.yaml', effect: 'print the effective run file as YAML' },
    { command: 'config run.yaml --set training.epochs=3 --json', effect: 'with an override, as JSON' },
  ],
  handler: async ({ arguments: { file }, options, output }) => {
    const { loadRunFile } = await import('../../../shared/config/run-file.ts');
    const runFile = loadRunFile(file, { set: options.set });
    // The model and the data tell how long an epoch is and which parameters a glob means.
    const { describeJob } = await import('../../../worker/training/describe.ts');
    const { runConfigToYaml } = await import('../../../shared/config/effective.ts');
    const { config, warnings } = await describeJob(runFile);
    for (const warning of warnings) output.warn(warning);
    output.result(config, () => runConfigToYaml(config));
  },
});
