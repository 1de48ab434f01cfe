import assert from 'node:assert/strict';
import { finish, readMetrics, withFolder, writeRunFile } from './support.ts';

/** Elements of LeNet-300-100: kernels (prunable) and biases. */
const PRUNABLE = 266_200;
const BIASES = 410;
const STEPS = 40;
const SLICES = 2;
const WORKERS = 2;

/** Bytes a step = value size x packed elements x (slices pushed + workers answered); design of the exchange. */
function formula(sparsity: number): number {
  const removed = Math.floor(sparsity * PRUNABLE + 0.5);
  return 4 * (PRUNABLE - removed + BIASES) * (SLICES + WORKERS);
}

describe('bytes on the socket', function () {
  this.timeout(300_000);

  for (const sparsity of [0, 0.95]) {
    it(`equal the formula within 2 % at ${100 * sparsity} % sparsity`, async () => {
      await withFolder(async (folder) => {
        const runFile = await writeRunFile(folder, {
          name: 'bytes',
          model: 'lenet-300-100',
          data: { source: 'mnist', batchSize: 128 },
          cluster: { servers: 1, workers: WORKERS, backend: 'wasm' },
          training: { steps: STEPS, optimizer: { kind: 'adam', learningRate: 0.001 }, evaluateEvery: 0 },
          sparsity:
            sparsity === 0
              ? []
              : [{ schedule: { kind: 'constant', finalSparsity: sparsity, beginStep: 0, endStep: 0 } }],
          checkpoint: { every: STEPS, keep: 1 },
        });
        const result = await finish(['launch', runFile, '--runs-dir', folder]);
        const expected = formula(sparsity);
        for (const { step, bytesPushed, bytesPulled } of (await readMetrics(result.runDirectory)).slice(1, -1)) {
          near(bytesPushed + bytesPulled, expected, `step ${step}`);
        }
        // What the server's sockets carried in all: the exchange, the initial values and the mask, and little else.
        const { pushed, pulled, masks, control } = result.bytes;
        assert.ok(masks !== null && control !== null);
        const initial = 4 * (PRUNABLE + BIASES);
        const firstPull = (expected * WORKERS) / (SLICES + WORKERS);
        near(pushed + pulled + masks + control, STEPS * expected + initial + firstPull + masks, 'sockets in all');
      });
    });
  }
});

function near(measured: number, expected: number, label: string): void {
  const off = Math.abs(measured - expected) / expected;
  assert.ok(
    off <= 0.02,
    `${label}: ${measured} bytes where the formula gives ${expected} (${(100 * off).toFixed(2)} % off)`,
  );
}
