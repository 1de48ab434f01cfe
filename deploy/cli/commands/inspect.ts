import { basename, dirname } from 'node:path';
import { digestCheckpoint, locatedAt } from '../../../shared/checkpoint/digests.ts';
import { deadFraction, reportLayersOf } from '../../../shared/checkpoint/layer-report.ts';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import { timelineOf } from '../../../shared/coordination/scheduler-finder.ts';
import { defineCommand } from '../command.ts';
import { findCheckpoint } from '../find-run.ts';
import { formatLayers } from '../layer-table.ts';
import { formatBytes, formatCount, formatPercent } from '../quantities.ts';
import { formatGuard, formatPairs } from '../report.ts';
import { runsOption } from '../run-command.ts';
import { formatTable } from '../table.ts';

export const command = defineCommand({
  name: 'inspect',
  description: 'Show a checkpoint: its layers, survivors, shards and digests. Every byte is checked against its hash.',
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
    { command: 'inspect mine', effect: 'show the newest checkpoint of the run `mine`' },
    { command: 'inspect runs/mine/checkpoints/step-00000468-g1', effect: 'show one checkpoint' },
  ],
  handler: async ({ arguments: { target }, options, output }) => {
    const { folder, manifest } = await findCheckpoint(target, {
      runsDirectory: options.runsDir,
      step: options.step,
      warn: (message) => output.warn(message),
      note: (message) => output.note(message),
    });
    const run = dirname(dirname(folder));
    // A checkpoint that lies elsewhere has no earlier ones beside it.
    const lineage = await timelineOf(run).then(
      (timeline) => timeline.lineage,
      () => [],
    );
    const layers = await reportLayersOf({ folder, manifest }, new CheckpointStore(run), lineage);
    const parameterSparsity = deadFraction(layers);
    const digests = await digestCheckpoint(manifest, locatedAt(folder));
    const {
      runId,
      clock,
      generation,
      maskEpoch,
      whittleVersion,
      writtenAt,
      sparsity,
      testAccuracy,
      fingerprint,
      shards,
    } = manifest;
    const bytes = shards.reduce((sum, shard) => sum + shard.bytes, 0);
    const value = {
      checkpoint: folder,
      runId,
      step: clock,
      generation,
      maskEpoch,
      sparsity,
      parameterSparsity,
      testAccuracy,
      whittleVersion,
      writtenAt,
      fingerprint,
      bytes,
      ...digests,
      ...(manifest.guard === undefined ? {} : { guard: manifest.guard }),
      layers,
      shards,
    };
    output.result(value, () =>
      [
        formatPairs([
          ['checkpoint', folder],
          ['run', `${runId}, step ${clock}, generation ${generation}, mask ${maskEpoch}`],
          ['written', `${writtenAt} by Whittle ${whittleVersion}`],
          ['backend', fingerprint],
          ['sparsity', `${formatPercent(sparsity)}, ${formatPercent(parameterSparsity)} of all parameters`],
          ...(testAccuracy === null ? [] : [['test accuracy', formatPercent(testAccuracy)] as const]),
          ...formatGuard(manifest.guard),
          ['size', formatBytes(bytes)],
          ['weights digest', digests.weightsDigest],
          ['mask digest', digests.maskDigest],
          ['state digest', digests.stateDigest],
        ]),
        formatLayers(layers),
        formatTable(
          [
            { title: 'shard' },
            { title: 'elements', align: 'right' },
            { title: 'from', align: 'right' },
            { title: 'bytes', align: 'right' },
            { title: 'sha256' },
          ],
          shards.map((shard) => [
            basename(shard.file),
            formatCount(shard.end - shard.start),
            shard.start,
            formatCount(shard.bytes),
            `${shard.sha256.slice(0, 16)}… verified`,
          ]),
        ),
      ].join('\n\n'),
    );
  },
});
