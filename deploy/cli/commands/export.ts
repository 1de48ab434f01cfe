import { commandLine } from '../../../shared/invocation.ts';
import { resolve } from 'node:path';
import { defineCommand } from '../command.ts';
import { findCheckpoint } from '../find-run.ts';
import { formatBytes, formatPercent } from '../quantities.ts';
import { formatPairs } from '../report.ts';
import { runsOption } from '../run-command.ts';
import { plural } from '../../../shared/plural.ts';
import type { ExportFormatName } from '../../export/export.ts';
import type { ShrinkReport } from '../../export/shrunk-checkpoint.ts';

const FORMATS = ['tfjs', 'safetensors'] as const satisfies readonly ExportFormatName[];

export const command = defineCommand({
  name: 'export',
  description:
    'Export a checkpoint as a dense model whose pruned weights are exactly zero, read back and compared before it appears.\n' +
    'tfjs: model.json and weights.bin for tf.loadLayersModel. safetensors: the trained weights and the state by name.\n' +
    'Both add export-manifest.json: sha256 of every file, accuracy, sparsity of every layer.',
  arguments: {
    target: {
      label: 'run|checkpoint',
      description: 'id or directory of a run (its newest usable checkpoint), or a checkpoint folder',
    },
  },
  options: {
    format: { type: 'string', default: 'tfjs', choices: FORMATS, description: 'what to write' },
    out: { type: 'string', label: 'DIR', description: 'folder to write; default: <run>-<format> here' },
    shrink: {
      type: 'boolean',
      description: 'leave out neurons and filters that are dead, compute a constant, or are read by nothing',
    },
    force: { type: 'boolean', description: 'replace an export that lies in DIR' },
    step: { type: 'integer', label: 'N', min: 0, description: 'the newest checkpoint of this step or an earlier one' },
    runsDir: runsOption,
  },
  examples: [
    {
      command: 'export mine --out exported',
      effect: 'write the newest checkpoint of the run `mine` as a TensorFlow.js model',
    },
    {
      command: 'export mine --format safetensors --out exported --force',
      effect: 'replace it with a safetensors file',
    },
    { command: 'export mine --shrink --out small', effect: 'write a model of smaller layers that computes the same' },
  ],
  handler: async ({ arguments: { target }, options, output }) => {
    const { folder, manifest } = await findCheckpoint(target, {
      runsDirectory: options.runsDir,
      step: options.step,
      warn: (message) => output.warn(message),
      note: (message) => output.note(message),
    });
    const format = options.format as ExportFormatName;
    const out = resolve(options.out ?? `${manifest.runId}-${format}`);
    const { exportRun } = await import('../../export/export.ts');
    const exported = await exportRun({ folder, format, out, force: options.force, shrink: options.shrink });
    output.result({ checkpoint: folder, out, ...exported }, () =>
      formatPairs([
        ['exported', out],
        ['from', folder],
        ['sparsity', formatPercent(exported.sparsity)],
        ['test accuracy', describeAccuracy(exported.testAccuracy, folder, manifest.model.testExamples)],
        ...describeShrink(exported.shrunk),
        ...exported.files.map(({ file, bytes, sha256 }) => [file, `${formatBytes(bytes)}, sha256 ${sha256}`] as const),
        [
          'verified',
          `read back, every weight equal to the checkpoint${exported.shrunk === undefined ? '' : "'s shrunk form"}`,
        ],
      ]),
    );
  },
});

/** One line for each layer that lost units, one for each reason why some stay. */
function describeShrink(shrunk: ShrinkReport | undefined): (readonly [string, string])[] {
  if (shrunk === undefined) return [];
  const lost = shrunk.units.filter(({ before, after }) => after < before);
  return [
    ...(lost.length === 0 ? [['shrunk', 'nothing: every unit is needed'] as const] : []),
    ...lost.map(
      ({ producers, before, after }) => ['shrunk', `${producers.join(' + ')}: ${before} -> ${after}`] as const,
    ),
    ...shrunk.refused.map(
      ({ producers, units, why }) => ['kept', `${plural(units, 'unit')} of ${producers.join(' + ')}: ${why}`] as const,
    ),
  ];
}

function describeAccuracy(accuracy: number | null, folder: string, testExamples: number): string {
  if (accuracy !== null) return formatPercent(accuracy);
  if (testExamples === 0) return 'none: the data has no test part';
  return `not known: this checkpoint was not evaluated, or its labels are no classes; see \`${commandLine('evaluate', folder)}\``;
}
