import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'mocha';
import type { RunConfig } from '../../../shared/config/types.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { clearBit, fullBitmap } from '../../../shared/sparsity/bitmap.ts';
import { pack } from '../../../shared/sparsity/packing.ts';
import { ComputeClient } from '../../../worker/training/compute-client.ts';
import { Engine } from '../../../worker/training/engine.ts';
import { engineConfig, fixture } from '../../fixtures/config.ts';
import { temporaryFolder } from '../../fixtures/user-module.ts';

describe('compute thread', () => {
  const folder = temporaryFolder();
  const clients: ComputeClient[] = [];
  const CONFIG = engineConfig({ model: fixture('bn-dropout-model.ts') }, 2);

  async function create(config: RunConfig): Promise<ComputeClient> {
    const client = await ComputeClient.create({ config });
    clients.push(client);
    return client;
  }

  afterEach(() => Promise.all(clients.splice(0).map((client) => client.terminate())));

  it('answers as the engine in this thread does, bit for bit', async () => {
    const engine = await Engine.create({ config: CONFIG });
    const client = await create(CONFIG);
    assert.deepEqual(client.description, engine.description);
    assert.deepEqual(
      [client.fingerprint, client.numEvaluationChunks],
      [engine.fingerprint, engine.numEvaluationChunks],
    );
    const weights = await client.initialWeights();
    const state = await client.initialState();
    assert.deepEqual(weights, engine.initialWeights());
    assert.deepEqual(state, engine.initialState());

    const mask = fullBitmap(weights.length);
    for (let i = 0; i < weights.length; i += 3) clearBit(mask, i);
    const packed = pack(weights, mask);
    engine.setMask(mask);
    engine.setWeights(packed.slice(), state.slice());
    engine.keepForEvaluation(1);
    await client.setMask(mask);
    // A part of a larger buffer stays usable here: only the part goes.
    const received = new Float32Array(packed.length + 1);
    received.set(packed, 1);
    await client.setWeights(received.subarray(1), state, 1);
    await client.keepForEvaluation(1);
    assert.equal(received.length, packed.length + 1);

    for (const slice of [1, 0]) assert.deepEqual(await client.gradient(2, slice), await engine.gradient(2, slice));
    assert.deepEqual(await client.evaluateChunk(1, 0), await engine.evaluateChunk(1, 0));
    await client.dropEvaluation(1);
    engine.dispose();
  });

  it('computes a slice before chunks that were asked for earlier, and drops their weights after them', async () => {
    const client = await create(CONFIG);
    await client.keepForEvaluation(0);
    const order: string[] = [];
    const note = (name: string) => (): void => void order.push(name);
    await Promise.all([
      client.evaluateChunk(0, 0).then(note('chunk')),
      client.evaluateChunk(0, 0).then(note('chunk')),
      client.dropEvaluation(0).then(note('drop')),
      client.gradient(1, 0).then(note('slice')),
      client.gradient(1, 1).then(note('slice')),
    ]);
    // The first chunk may have begun before the slices' messages came.
    assert.deepEqual(order.slice(-2), ['chunk', 'drop']);
    assert.ok(order.indexOf('slice') <= 1);
  });

  it('brings errors across with their code and data, and lives on', async () => {
    const client = await create(CONFIG);
    const size = (await client.initialWeights()).length;
    await client.setWeights(new Float32Array(size).fill(NaN), await client.initialState(), 2);
    await assert.rejects(client.gradient(3, 1), (error: unknown) => {
      assert.ok(error instanceof WhittleError);
      assert.equal(error.code, 'NOT_FINITE');
      assert.deepEqual([error.data['step'], error.data['slice']], [3, 1]);
      return true;
    });
    await client.setWeights(await client.initialWeights(), await client.initialState(), 0);
    assert.equal((await client.gradient(1, 0)).examples, 16);
  });

  it("brings the user's own error across from building the model", async () => {
    const model = folder.write('broken.ts', 'export function model() {\n  throw new TypeError("my mistake");\n}');
    await assert.rejects(ComputeClient.create({ config: { ...CONFIG, model } }), (error: unknown) => {
      assert.ok(error instanceof WhittleError);
      assert.equal(error.code, 'MODEL');
      assert.match(error.message, /model\(tf\) failed: TypeError: my mistake \(.*broken\.ts:2:\d+\)/);
      return true;
    });
  });

  it('reports the death of the thread, and rejects what waits for it', async () => {
    const model = folder.write(
      'exits.ts',
      `export const model = (tf: any) => tf.sequential({ layers: [tf.layers.dense({ units: 4, inputShape: [20] })] });
       export const loss = () => process.exit(5);`,
    );
    let death: WhittleError | undefined;
    const client = await ComputeClient.create({ config: { ...CONFIG, model }, onDeath: (error) => (death = error) });
    await assert.rejects(client.gradient(1, 0), /ended with code 5/);
    assert.match(String(death), /ended with code 5/);
    await assert.rejects(client.gradient(1, 0), /ended with code 5/);
  });

  it('rejects calls after it was ended', async () => {
    const client = await create(CONFIG);
    const waiting = client.gradient(1, 0);
    const rejected = assert.rejects(waiting, /the thread was ended/);
    await client.terminate();
    await rejected;
    await assert.rejects(client.initialWeights(), /the thread was ended/);
  });
});
