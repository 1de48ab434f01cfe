import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import { FIXTURES, finish, goldenRunFile, readMetrics, twoAtOnce, withFolder, writeRunFile } from './support.ts';

interface Golden {
  readonly losses: readonly number[];
  readonly sparsity: readonly number[];
}

/** Servers and workers, the slowest first. */
const CLUSTERS = [3, 2, 1].flatMap((servers) => [4, 2, 1].map((workers) => [servers, workers] as const));

describe('the golden training run through real processes', function () {
  this.timeout(300_000);

  it('repeats PyTorch with any number of servers and workers, with the same bits', async () => {
    const golden = JSON.parse(await readFile(new URL('../golden/training.json', import.meta.url), 'utf8')) as Golden;
    const digests = await twoAtOnce(CLUSTERS, ([servers, workers]) =>
      withFolder(async (folder) => {
        const runFile = await writeRunFile(folder, goldenRunFile({ servers, workers, slices: 4 }));
        const result = await finish(['launch', runFile, '--runs-dir', folder]);
        const label = `${servers} servers, ${workers} workers`;
        const metrics = await readMetrics(result.runDirectory);
        assert.equal(metrics.length, 60, label);
        metrics.forEach(({ step, loss, sparsity }, i) => {
          assert.equal(step, i + 1, label);
          const expected = golden.losses[i] as number;
          assert.ok(
            Math.abs(loss - expected) <= 1e-4 * Math.abs(expected),
            `${label}: loss ${loss} at step ${step}, PyTorch ${expected}`,
          );
          // 384 prunable elements: counts are exact where the quotient may differ in its last bit.
          assert.equal(
            Math.round(sparsity * 384),
            Math.round((golden.sparsity[i] as number) * 384),
            `${label}: sparsity at step ${step}`,
          );
          assert.ok(Math.abs(sparsity - (golden.sparsity[i] as number)) < 1e-15, label);
        });
        assert.deepEqual(
          Object.keys(result.slicesByWorker),
          Array.from({ length: workers }, (_, i) => String(i)),
          label,
        );
        assert.equal(sum(Object.values(result.slicesByWorker)), 60 * 4, label);
        return digestsOf(result);
      }),
    );
    assert.equal(new Set(digests).size, 1, `${CLUSTERS.length} runs, one set of bits; got ${digests.join(' and ')}`);
  });

  it('keeps the bits with batch normalisation, dropout and clipping by global norm', async () => {
    const clusters = [
      [3, 4],
      [1, 1],
      [2, 2],
    ] as const;
    const digests = await twoAtOnce(clusters, ([servers, workers]) =>
      withFolder(async (folder) => {
        const base = goldenRunFile({ servers, workers, slices: 4 });
        const runFile = await writeRunFile(folder, {
          ...base,
          model: join(FIXTURES, 'bn-dropout-model.ts'),
          training: { steps: 60, optimizer: { kind: 'adam', learningRate: 0.01 }, clipNorm: 0.5, evaluateEvery: 0 },
        });
        return digestsOf(await finish(['launch', runFile, '--runs-dir', folder]));
      }),
    );
    assert.equal(new Set(digests).size, 1, digests.join(' and '));
  });
});

function digestsOf({ weightsDigest, maskDigest, stateDigest }: RunResult): string {
  assert.ok(weightsDigest && maskDigest && stateDigest, 'digests are missing');
  return [weightsDigest, maskDigest, stateDigest].join(' ');
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
