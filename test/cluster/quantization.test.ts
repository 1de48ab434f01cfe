import assert from 'node:assert/strict';
import { join } from 'node:path';
import { readManifest } from '../../shared/checkpoint/manifest-file.ts';
import { readState } from '../../shared/checkpoint/reshard.ts';
import { isActivationRange } from '../../shared/quantization/activation-range.ts';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import {
  assertQuiet,
  digestsOf,
  finish,
  killRun,
  latestCheckpoint,
  readMetrics,
  smallRunFile,
  start,
  twoAtOnce,
  untilStep,
  withFolder,
  writeRunFile,
} from './support.ts';

const STEPS = 150;
const EVERY = 40;

/** Batch normalisation, dropout, pruning, and quantization that begins in the middle. */
function runFile(servers: number, workers: number): Record<string, unknown> {
  return {
    ...smallRunFile({ steps: STEPS, servers, workers, every: EVERY }),
    quantization: { weights: { bits: 8 }, activations: { bits: 8, decay: 0.9 }, beginStep: 90, match: '*/kernel' },
  };
}

describe('a run with quantization-aware training', function () {
  this.timeout(400_000);

  it('has one digest for any number of servers and workers, killed and resumed or not', () =>
    withFolder(async (folder) => {
      const launch = async (servers: number, workers: number): Promise<RunResult> => {
        const runId = `on-${servers}-${workers}`;
        const path = await writeRunFile(folder, runFile(servers, workers), runId);
        return finish(['launch', path, '--runs-dir', folder, '--run-id', runId]);
      };
      const clusters = [
        [2, 2],
        [1, 1],
        [1, 2],
        [2, 1],
      ] as const;
      const [never, ...others] = await twoAtOnce(clusters, ([servers, workers]) => launch(servers, workers));
      assert.ok(never);
      for (const other of others) {
        assert.deepEqual(digestsOf(other), digestsOf(never), other.runId);
        assert.equal(other.testAccuracy, never.testAccuracy);
      }
      const path = await writeRunFile(folder, runFile(2, 2));
      const runDirectory = join(folder, 'killed');
      const { child, ended } = start(['launch', path, '--runs-dir', folder, '--run-id', 'killed', '--json']);
      await untilStep(runDirectory, 2 * EVERY + 5, ended);
      await killRun(runDirectory, child);
      await ended;
      const latest = await latestCheckpoint(runDirectory);
      const checkpoint = join(runDirectory, 'checkpoints', latest.folder);
      const manifest = await readManifest(checkpoint);
      const state = await readState(checkpoint, manifest);
      const ranges = state.slice(-manifest.model.states.filter(isActivationRange).length);
      assert.ok(
        ranges.length === 4 && ranges.every((range) => range > 0),
        `ranges in ${latest.folder}: ${ranges.join()}`,
      );
      const resumed = await finish(['resume', runDirectory, '--servers', '3', '--workers', '1']);
      assert.equal(resumed.resumedFrom, latest.clock);
      assert.deepEqual(digestsOf(resumed), digestsOf(never));
      assert.equal((await readMetrics(runDirectory)).length, STEPS);
      await assertQuiet(runDirectory);
    }));
});
