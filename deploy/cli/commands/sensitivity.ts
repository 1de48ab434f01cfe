import { WhittleError } from '../../../shared/errors.ts';
import { ParameterSpace, type Parameter } from '../../../shared/layout/parameter-space.ts';
import { matchesGlob } from '../../../shared/sparsity/glob.ts';
import { checkpointEngine } from '../../export/checkpoint-engine.ts';
import { defineCommand } from '../command.ts';
import { findCheckpoint } from '../find-run.ts';
import { formatCount, formatPercent } from '../quantities.ts';
import { runsOption } from '../run-command.ts';
import { measureSensitivity, type LayerSensitivity, type Sensitivity } from '../sensitivity.ts';
import { plotSeries } from '../series-plot.ts';
import { formatTable } from '../table.ts';

const POINTS = '0,0.5,0.8,0.9,0.95,0.99';

export const command = defineCommand({
  name: 'sensitivity',
  description:
    'Show which layers bear pruning: accuracy against sparsity, one layer pruned at a time.\n' +
    'Each parameter alone is pruned by magnitude to each point, without training afterwards, and the whole test set is\n' +
    'evaluated. A layer whose curve falls early wants a rule of its own, or protection.',
  arguments: {
    target: {
      label: 'run|checkpoint',
      description: 'id or directory of a run (its newest usable checkpoint), or a checkpoint folder',
    },
  },
  options: {
    layers: {
      type: 'string',
      label: 'GLOB',
      description: 'parameters by name, `*` for any characters; default: kernels of dense and convolution layers',
    },
    points: {
      type: 'string',
      label: 'LIST',
      default: POINTS,
      description: 'sparsities from 0 to 1, separated by commas',
    },
    step: { type: 'integer', label: 'N', min: 0, description: 'the newest checkpoint of this step or an earlier one' },
    runsDir: runsOption,
  },
  examples: [
    { command: 'sensitivity mine', effect: 'print table and curves of all kernels' },
    { command: "sensitivity mine --layers 'conv*' --points 0,0.3,0.6", effect: 'look at some layers only' },
  ],
  handler: async ({ arguments: { target }, options, output }) => {
    const points = parsePoints(options.points);
    const { folder, manifest } = await findCheckpoint(target, {
      runsDirectory: options.runsDir,
      step: options.step,
      warn: (message) => output.warn(message),
      note: (message) => output.note(message),
    });
    const space = ParameterSpace.of(manifest.model.parameters);
    const parameters = select(space, options.layers);
    const checkpoint = await checkpointEngine(folder, manifest, (message) => output.warn(message));
    const measured = await measureSensitivity(checkpoint, {
      ...{ space, parameters, points },
      onLayer: ({ name }) => output.progress(`${name} measured at ${points.length} points`),
    }).finally(() => checkpoint.engine.dispose());
    const { base, layers } = measured;
    const value = {
      ...{ checkpoint: folder, runId: manifest.runId, step: manifest.clock, sparsity: manifest.sparsity },
      ...base,
      layers,
    };
    output.result(value, () => describe(measured, points, manifest.clock));
  },
});

/** Errors: USAGE. */
function parsePoints(text: string): number[] {
  const points = text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  const wrong = points.findIndex((point) => !(point >= 0 && point <= 1));
  if (wrong >= 0) {
    throw new WhittleError(
      'USAGE',
      `--points ${text}: "${text.split(',')[wrong] ?? ''}" is no sparsity from 0 to 1; write them like ${POINTS}`,
    );
  }
  return [...new Set(points)].sort((a, b) => a - b);
}

/** Errors: USAGE, with the names there are. */
function select({ parameters }: ParameterSpace, glob: string | undefined): Parameter[] {
  const selected = parameters.filter(
    ({ name, prunable, size }) => size > 0 && (glob === undefined ? prunable : matchesGlob(glob, name)),
  );
  if (selected.length > 0) return selected;
  const names = parameters.map(({ name }) => name).join(', ');
  throw new WhittleError(
    'USAGE',
    glob === undefined
      ? `the model has no kernels of dense or convolution layers; name parameters with --layers: ${names}`
      : `--layers ${glob} matches none of the parameters: ${names}`,
  );
}

function describe({ base, layers }: Sensitivity, points: readonly number[], step: number): string {
  const ofAccuracy = base.testAccuracy !== null;
  const format = (value: number): string => (ofAccuracy ? formatPercent(value) : value.toFixed(4));
  const titles = points.map((point) => `${Number((100 * point).toFixed(4))} %`);
  const table = formatTable(
    [
      { title: 'parameter' },
      ...['size', 'sparsity now', ...titles].map((title) => ({ title, align: 'right' as const })),
    ],
    layers.map((layer) => [
      layer.name,
      formatCount(layer.size),
      formatPercent(1 - layer.survivors / layer.size),
      ...valuesOf(layer).map(format),
    ]),
  );
  return [
    `test ${ofAccuracy ? 'accuracy' : 'loss'} at step ${step}: ${format(ofAccuracy ? base.testAccuracy : base.testLoss)} of ${formatCount(base.examples)} examples;` +
      ' then with one parameter pruned to a sparsity, what it has already included:',
    '',
    table,
    '',
    plotSeries(
      titles,
      layers.map((layer) => ({ name: layer.name, values: valuesOf(layer) })),
      format,
    ),
  ].join('\n');
}

/** Accuracies, or losses where labels are no classes. */
function valuesOf({ points }: LayerSensitivity): number[] {
  return points.map(({ testAccuracy, testLoss }) => testAccuracy ?? testLoss);
}
