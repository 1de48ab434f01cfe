import { commandLine } from '../../../shared/invocation.ts';
import { resolve } from 'node:path';
import { defineCommand } from '../command.ts';
import { findCheckpoint } from '../find-run.ts';
import { formatBytes, formatPercent } from '../quantities.ts';
import { formatPairs } from '../report.ts';
import { runsOption } from '../run-command.ts';
import type { ExportFormatName } from '../../export/export.ts';

const QUANTIZE = ['int8'] as const;
const FORMATS = ['tfjs', 'safetensors', 'onnx'] as const satisfies readonly ExportFormatName[];

export const command = defineCommand({
  name: 'export',
  description:
    'Export a checkpoint as a dense model whose pruned weights are exactly zero, read back and compared before it appears.\n' +
    'tfjs: model.json and weights.bin for tf.loadLayersModel. safetensors: the trained weights and the state by name.\n' +
    'onnx: model.onnx of opset 13, for onnxruntime and others, checked with onnxruntime-web where that is installed.\n' +
    'All add export-manifest.json: sha256 of every file, accuracy, sparsity of every layer.',
  arguments: {
    target: {
      label: 'run|checkpoint',
      description: 'id or directory of a run (its newest usable checkpoint), or a checkpoint folder',
    },
  },
  options: {
    format: { type: 'string', default: 'tfjs', choices: FORMATS, description: 'what to write' },
    quantize: {
      type: 'string',
      choices: QUANTIZE,
      description: 'store whole numbers: safetensors int8 per output channel, tfjs uint8 per tensor; 0 stays 0',
    },
    packed: {
      type: 'boolean',
      description: 'safetensors only: survivors and deflated bitmaps in place of dense weights',
    },
    out: { type: 'string', label: 'DIR', description: 'folder to write; default: <run>-<format> here' },
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
      command: 'export mine --quantize int8 --out small',
      effect: 'store bytes for weights, and measure what that costs in accuracy',
    },
    {
      command: 'export mine --format safetensors --out exported --force',
      effect: 'replace it with a safetensors file',
    },
    {
      command: 'export mine --format safetensors --packed --out small',
      effect: 'write the surviving weights only, with a bitmap of their places',
    },
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
    const quantize = options.quantize as (typeof QUANTIZE)[number] | undefined;
    const exported = await exportRun({
      folder,
      format,
      packed: options.packed,
      out,
      force: options.force,
      note: (message) => output.note(message),
      ...(quantize === undefined ? {} : { quantize }),
    });
    const { quantization } = exported;
    output.result({ checkpoint: folder, out, ...exported }, () =>
      formatPairs([
        ['exported', out],
        ['from', folder],
        [
          'sparsity',
          `${formatPercent(exported.sparsity)}, ${formatPercent(exported.parameterSparsity)} of all parameters`,
        ],
        ['test accuracy', describeAccuracy(exported.testAccuracy, folder, manifest.model.testExamples)],
        ...(quantization === undefined
          ? []
          : ([
              ['weights', quantization.weights],
              ['activations', quantization.activations],
              [
                'quantized accuracy',
                quantization.testAccuracy === null ? 'none' : formatPercent(quantization.testAccuracy),
              ],
            ] as const)),
        ...exported.files.map(({ file, bytes, sha256 }) => [file, `${formatBytes(bytes)}, sha256 ${sha256}`] as const),
        [
          'verified',
          quantization === undefined
            ? 'read back, every weight equal to the checkpoint'
            : 'read back, every weight equal to what was measured',
        ],
      ]),
    );
  },
});

function describeAccuracy(accuracy: number | null, folder: string, testExamples: number): string {
  if (accuracy !== null) return formatPercent(accuracy);
  if (testExamples === 0) return 'none: the data has no test part';
  return `not known: this checkpoint was not evaluated, or its labels are no classes; see \`${commandLine('evaluate', folder)}\``;
}
