import { withCheckpointEngine } from '../checkpoint-engine.ts';
import { defineCommand } from '../command.ts';
import { findCheckpoint } from '../find-run.ts';
import { formatCount, formatPercent } from '../quantities.ts';
import { formatPairs } from '../report.ts';
import { runsOption } from '../run-command.ts';

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
    runsDir: runsOption,
  },
  examples: [
    { command: 'evaluate mine', effect: 'print accuracy and loss of the newest checkpoint of the run `mine`' },
  ],
  handler: async ({ arguments: { target }, options, output }) => {
    const found = await findCheckpoint(target, {
      runsDirectory: options.runsDir,
      step: options.step,
      warn: (message) => output.warn(message),
      note: (message) => output.note(message),
    });
    const { manifest, folder } = found;
    const result = await withCheckpointEngine(
      found,
      (message) => output.warn(message),
      ({ mask, evaluate }) => evaluate(mask),
    );
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
