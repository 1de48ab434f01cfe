import { createRun, prepareLaunch } from '../../launchers/run.ts';
import { defineCommand, setOption } from '../command.ts';
import { formatPlan } from '../report.ts';
import {
  givenLauncherOptions,
  launcherOptions,
  runInBackground,
  runInForeground,
  showPlan,
  startOptions,
} from '../run-command.ts';
import { securityOverrides } from '../security-options.ts';

export const command = defineCommand({
  name: 'launch',
  description:
    'Start a training run and follow it to its end. Prints the plan, progress and a report.\n' +
    'The first Ctrl-C checkpoints and stops the run, the second kills it. Exit codes: 0 finished, 1 failed, 2 wrong usage or run file, 130 stopped.',
  arguments: { runFile: { label: 'run.yaml', description: 'the run file' } },
  options: {
    set: setOption,
    runId: {
      type: 'string',
      label: 'ID',
      description: 'name of the run; default: the name in the run file and the time',
    },
    faults: {
      type: 'string',
      label: 'FILE',
      description: 'fault script, one line such as `at step 120 kill server[1]` each',
    },
    workers: {
      type: 'integer',
      label: 'N',
      min: 1,
      description: 'workers to start, where the run file gives a range such as 2:8; default: the most',
    },
    ...startOptions,
    ...launcherOptions,
  },
  examples: [
    { command: 'launch run.yaml', effect: 'train as the run file says' },
    {
      command: 'launch run.yaml --set training.steps=100 --set cluster.workers=4 --dry-run',
      effect: 'print the plan of a changed run and start nothing',
    },
    { command: 'launch run.yaml --run-id mine --detach', effect: 'train in the background as run `mine`' },
  ],
  handler: async (context) => {
    const {
      arguments: { runFile },
      options,
      output,
      json,
    } = context;
    // From here on Ctrl-C is ours: it must not end us while a run directory is half made.
    void context.signal;
    const { set, runId, runsDir: runsDirectory, on, faults, workers, maxRestarts, standbys } = options;
    const prepared = await prepareLaunch({
      runFile,
      set: [...set, ...securityOverrides(options)],
      runsDirectory,
      on,
      launcherOptions: givenLauncherOptions(on, options),
      maxRestarts,
      standbys,
      ...(workers === undefined ? {} : { workers }),
      ...(runId === undefined ? {} : { runId }),
      ...(faults === undefined ? {} : { faults }),
    });
    if (options.dryRun) {
      await showPlan(prepared, output);
      return 0;
    }
    const aside = await createRun(prepared);
    if (aside !== null)
      output.note(`run ${prepared.launchPlan.runId} ended before its first checkpoint: what it left is now ${aside}`);
    if (!json || !options.detach) output.line(`${formatPlan(prepared.plan, prepared.source)}\n`);
    return options.detach ? runInBackground(prepared, output) : runInForeground(prepared, context);
  },
});
