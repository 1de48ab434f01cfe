import assert from 'node:assert/strict';
import { join } from 'node:path';
import { readManifest } from '../../shared/checkpoint/manifest-file.ts';
import { readState } from '../../shared/checkpoint/reshard.ts';
import { isActivationRange } from '../../shared/quantization/activation-range.ts';
import {
  assertQuiet,
  digestsOf,
  finish,
  killRun,
  latestCheckpoint,
  readMetrics,
  smallRunFile,
  start,
  untilStep,
  withFolder,
  writeRunFile,
} from './support.ts';

const STEPS = 200;
const EVERY = 50;

/** Batch normalisation, dropout, pruning, and quantization that begins in the middle. */
function runFile(servers: number, workers: number): Record<string, unknown> {
  return {
    ...smallRunFile({ steps: STEPS, servers, workers, every: EVERY }),
    quantization: { weights: { bits: 8 }, activations: { bits: 8, decay: 0.9 }, beginStep: 110, match: '*/kernel' },
  };
}

describe('a run with quantization-aware training', function () {
  this.timeout(240_000);

  it('has one digest for any number of servers and workers, killed and resumed or not', () =>
    withFolder(async (folder) => {
      const launch = async (name: string, document: Record<string, unknown>) =>
        finish(['launch', await writeRunFile(folder, document), '--runs-dir', folder, '--run-id', name]);
      const never = await launch('never', runFile(2, 2));
      for (const [servers, workers] of [
        [1, 1],
        [1, 2],
        [2, 1],
      ] as const) {
        const other = await launch(`on-${servers}-${workers}`, runFile(servers, workers));
        assert.deepEqual(digestsOf(other), digestsOf(never), `${servers} servers, ${workers} workers`);
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
