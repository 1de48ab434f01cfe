import { prepareResume, updateRunFile } from '../../launchers/resume.ts';
import { defineCommand, setOption } from '../command.ts';
import { formatPlan, formatReport } from '../report.ts';
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
  name: 'resume',
  description:
    'Continue a run from its newest usable checkpoint, with any number of servers and workers.\n' +
    'A run that is finished is left as it is, unless --set training.steps asks for more.',
  arguments: { run: { description: 'id or directory of the run' } },
  options: {
    set: setOption,
    servers: { type: 'integer', label: 'N', min: 1, description: 'number of servers; default: as before' },
    workers: {
      type: 'integer',
      label: 'N',
      min: 1,
      description: 'number of workers; default: as before, the most of a range. The slices of a step stay the same',
    },
    step: {
      type: 'integer',
      label: 'N',
      min: 0,
      description: 'continue from the newest checkpoint of this step or an earlier one; what came later is left behind',
    },
    again: {
      type: 'boolean',
      description: 'let a finished run go back to an earlier checkpoint; what it did after that is thrown away',
    },
    ...startOptions,
    ...launcherOptions,
  },
  examples: [
    { command: 'resume lenet-20260801-120000-ab12', effect: 'continue where the run ended' },
    {
      command: 'resume runs/mine --workers 4 --set training.steps=20000',
      effect: 'train a finished run further, with four workers',
    },
  ],
  handler: async (context) => {
    const {
      arguments: { run },
      options,
      output,
      json,
    } = context;
    // From here on Ctrl-C is ours: it must not end us while a run directory is half made.
    void context.signal;
    const { set, servers, workers, step, again, runsDir: runsDirectory, on, maxRestarts, standbys } = options;
    const ready = await prepareResume({
      run,
      set: [...set, ...securityOverrides(options)],
      runsDirectory,
      again,
      on,
      launcherOptions: givenLauncherOptions(on, options),
      maxRestarts,
      standbys,
      ...(servers === undefined ? {} : { servers }),
      ...(workers === undefined ? {} : { workers }),
      ...(step === undefined ? {} : { step }),
    });
    if (ready.finished !== null) {
      const { finished } = ready;
      output.progress(
        `run ${finished.runId} is finished: ${finished.step} steps; train it further with --set training.steps=${2 * finished.step}`,
      );
      output.result(finished, () => formatReport(finished, null));
      return 0;
    }
    const { prepared, from, warnings } = ready;
    for (const warning of warnings) output.warn(warning);
    if (options.dryRun) {
      await showPlan(prepared, output, { resumedFrom: from.clock }, `continues from step ${from.clock}`);
      return 0;
    }
    await updateRunFile(prepared);
    if (!json || !options.detach) {
      output.line(`${formatPlan(prepared.plan, prepared.source)}\n`);
      output.line(
        `continuing from step ${from.clock} of ${prepared.plan.steps} (generation ${from.generation}, written ${from.writtenAt})`,
      );
    }
    return options.detach ? runInBackground(prepared, output) : runInForeground(prepared, context);
  },
});
