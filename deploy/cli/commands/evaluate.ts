import { checkpointEngine, evaluateCheckpoint } from '../../export/checkpoint-engine.ts';
import { defineCommand } from '../command.ts';
import { findCheckpoint } from '../find-run.ts';
import { formatCount, formatPercent } from '../quantities.ts';
import { formatPairs } from '../report.ts';
import { recalibrateOption, runsOption } from '../run-command.ts';

export const command = defineCommand({
  name: 'evaluate',
  description: 'Evaluate a checkpoint on the whole test set of its run file, with the effective weights.',
  arguments: {
    target: {
      label: 'run|checkpoint',
      description: 'id or directory of a run (its newest usable checkpoint), or a checkpoint folder',
    },
  },
  options: {
    step: { type: 'integer', label: 'N', min: 0, description: 'the newest checkpoint of this step or an earlier one' },
    recalibrate: recalibrateOption,
    runsDir: runsOption,
  },
  examples: [
    { command: 'evaluate mine', effect: 'print accuracy and loss of the newest checkpoint of the run `mine`' },
  ],
  handler: async ({ arguments: { target }, options, output }) => {
    const { folder, manifest } = await findCheckpoint(target, {
      runsDirectory: options.runsDir,
      step: options.step,
      warn: (message) => output.warn(message),
      note: (message) => output.note(message),
    });
    const checkpoint = await checkpointEngine(folder, manifest, (message) => output.warn(message));
    const recalibrate = options.recalibrate ?? manifest.config.recalibrate?.batches ?? 0;
    const result = await evaluateCheckpoint(checkpoint, { recalibrate }).finally(() => checkpoint.engine.dispose());
    const { testAccuracy, testLoss, examples } = result;
    output.result(
      { checkpoint: folder, runId: manifest.runId, step: manifest.clock, sparsity: manifest.sparsity, ...result },
      () =>
        formatPairs([
          ['checkpoint', folder],
          ['step', String(manifest.clock)],
          ['sparsity', formatPercent(manifest.sparsity)],
          ...(testAccuracy === null
            ? []
            : [['test accuracy', `${formatPercent(testAccuracy)} of ${formatCount(examples)} examples`] as const]),
          ['test loss', testLoss.toFixed(6)],
        ]),
    );
  },
});
