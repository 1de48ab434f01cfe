import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { WhittleError } from '../../../shared/errors.ts';
import { loadBackend, resolveBackend } from '../../../worker/backend/backend.ts';
import { tf } from '../../../worker/backend/tf.ts';

const require = createRequire(import.meta.url);

function installed(name: string): boolean {
  try {
    require.resolve(name);
    return true;
  } catch {
    return false;
  }
}

describe('backend', () => {
  it('resolves what is asked for', async () => {
    assert.equal(await resolveBackend('wasm'), 'wasm');
    assert.equal(await resolveBackend('cpu'), 'cpu');
  });

  it('auto is the best that loads', async function () {
    if (installed('@tensorflow/tfjs-node') || installed('@tensorflow/tfjs-node-gpu')) this.skip();
    assert.equal(await resolveBackend('auto'), 'wasm');
  });

  it('refuses a backend that does not load, with cause and cure', async function () {
    if (installed('@tensorflow/tfjs-node-gpu')) this.skip();
    await assert.rejects(resolveBackend('tensorflow-gpu'), (error: unknown) => {
      assert.ok(error instanceof WhittleError);
      assert.equal(error.code, 'UNSUPPORTED');
      assert.match(
        error.message,
        /tensorflow-gpu does not load: .*tfjs-node-gpu.*; run `npm install @tensorflow\/tfjs-node-gpu`/,
      );
      assert.ok(error.cause instanceof Error);
      return true;
    });
  });

  it('the fingerprint names the wasm file, and no handler of the process stays behind', async () => {
    const handlers = process.listenerCount('uncaughtException') + process.listenerCount('unhandledRejection');
    const { kind, fingerprint } = await loadBackend('wasm');
    assert.equal(process.listenerCount('uncaughtException') + process.listenerCount('unhandledRejection'), handlers);
    assert.equal(kind, 'wasm');
    assert.equal(tf.getBackend(), 'wasm');
    const folder = dirname(require.resolve('@tensorflow/tfjs-backend-wasm'));
    const digest = createHash('sha256')
      .update(readFileSync(join(folder, 'tfjs-backend-wasm-simd.wasm')))
      .digest('hex');
    assert.equal(fingerprint, `wasm-4.22.0-simd-${digest.slice(0, 16)}`);
    assert.equal(tf.env().getBool('WASM_HAS_MULTITHREAD_SUPPORT'), false);
  });

  it('loading twice changes nothing', async () => {
    assert.equal((await loadBackend('wasm')).fingerprint, (await loadBackend('wasm')).fingerprint);
  });

  it('tf has core, layers and the chained methods', () => {
    tf.tidy(() => {
      assert.equal(typeof tf.layers.dense, 'function');
      assert.equal(typeof tf.sequential, 'function');
      const x = tf.tensor2d([1, -2, 3, -4], [2, 2]);
      assert.deepEqual(
        [...x.sub(1).abs().matMul(x, true).dataSync()],
        [...tf.matMul(tf.abs(tf.sub(x, 1)), x, true).dataSync()],
      );
      assert.deepEqual(x.as1D().concat(tf.tensor1d([5])).shape, [5]);
      assert.deepEqual(x.stack(x).shape, [2, 2, 2]);
      assert.deepEqual(x.as3D(1, 2, 2).shape, [1, 2, 2]);
      assert.deepEqual([...x.where(x.greater(0), tf.zerosLike(x)).dataSync()], [1, 0, 3, 0]);
      assert.equal(x.toInt().dtype, 'int32');
      assert.deepEqual(tf.zeros([1, 2, 2, 1]).resizeBilinear([4, 4]).shape, [1, 4, 4, 1]);
    });
  });
});
