import assert from 'node:assert/strict';
import { compareOutputs } from '../../../../deploy/export/onnx/compare.ts';
import { convertModel } from '../../../../deploy/export/onnx/convert.ts';
import { encodeModel } from '../../../../deploy/export/onnx/proto.ts';
import { loadBackend } from '../../../../worker/backend/backend.ts';
import { tf } from '../../../../worker/backend/tf.ts';

describe('compareOutputs', function () {
  this.timeout(20_000);
  before(() => loadBackend('wasm'));

  it('runs the file, and tells one whose weights or operators are others', async () => {
    const model = tf.sequential({
      layers: [tf.layers.dense({ inputShape: [5], units: 4, activation: 'tanh' }), tf.layers.dense({ units: 3 })],
    });
    const { model: converted } = convertModel(model, {});
    assert.equal(await compareOutputs('model.onnx', encodeModel(converted), model), true);
    const bias = model.weights[3];
    bias?.write(tf.tensor([0, 0.001, 0]));
    await assert.rejects(
      compareOutputs('model.onnx', encodeModel(converted), model),
      /\[DISK\] model\.onnx, run by onnxruntime-web, gives dense_\w+\[1\] = .*, the model/,
    );
    const node = converted.graph?.node?.map((each) => ({
      ...each,
      opType: each.opType === 'Tanh' ? 'Tan?' : each.opType,
    }));
    await assert.rejects(
      compareOutputs('model.onnx', encodeModel({ ...converted, graph: { ...converted.graph, node } as object }), model),
      /\[DISK\] model\.onnx cannot be run by onnxruntime-web/,
    );
    model.dispose();
  });
});
