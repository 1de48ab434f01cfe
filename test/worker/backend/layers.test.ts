import assert from 'node:assert/strict';
import type { Tensor } from '@tensorflow/tfjs-core';
import { loadBackend } from '../../../worker/backend/backend.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { difference, modelOf, readCases, runCase } from './layer-cases.ts';
import type { Values } from './layer-cases.ts';

/** Relative to 1 + |expected|: float32 sums of some hundred terms, against PyTorch in float64. */
const TOLERANCE = 2e-5;

/** Layers of tf.layers that no golden case names: abstract ones, aliases, drawing layers (below), refused ones. */
const ELSEWHERE = new Set(
  `Layer RNN RNNCell input inputLayer averagePooling1d avgPool1d avgPool2d avgPool3d avgPooling1d avgPooling2d avgPooling3d
  globalMaxPool1d globalMaxPool2d maxPool1d maxPool2d alphaDropout dropout gaussianDropout gaussianNoise spatialDropout1d
  centerCrop randomWidth resizing convLstm2dCell`.split(/\s+/),
);

function near(actual: Values | null, expected: Values | null, what: string): void {
  if (actual === null || expected === null) return;
  const off = difference(actual, expected);
  assert.ok(typeof off === 'number' && off <= TOLERANCE, `${what} is off by ${off}`);
}

describe('layers on the wasm backend', () => {
  const cases = readCases();

  before(() => loadBackend('wasm'));

  for (const layerCase of cases) {
    it(layerCase.name, () => {
      const { warn } = console;
      console.warn = () => undefined; // TensorFlow.js warns that it unrolls nothing
      try {
        const result = runCase(tf, layerCase);
        near(result.output, layerCase.output, 'output');
        // Batch normalisation: the training pass moved the averages.
        if (!layerCase.name.startsWith('batchNormalization'))
          near(result.inference, layerCase.output, 'output without a tape');
        layerCase.inputGrads.forEach((expected, index) =>
          near(result.inputGrads[index] ?? null, expected, `gradient of input ${index}`),
        );
        layerCase.weightGrads.forEach((expected, index) =>
          near(result.weightGrads[index] ?? null, expected, `gradient of weight ${index}`),
        );
      } finally {
        console.warn = warn;
      }
    });
  }

  it('covers every layer that TensorFlow.js offers', () => {
    const covered = JSON.stringify(cases.map(({ layers }) => layers));
    const missing = Object.keys(tf.layers).filter((name) => !ELSEWHERE.has(name) && !covered.includes(`"${name}"`));
    assert.deepEqual(missing, []);
  });

  it('gives the same bits each time', () => {
    for (const layerCase of cases.filter(({ name }) =>
      /^(conv2d same|dense 9x16->17|maxPooling2d 3 stride 2 same|LeNet)/.test(name),
    )) {
      assert.deepEqual(runCase(tf, layerCase), runCase(tf, layerCase), layerCase.name);
    }
  });

  it('leaves no tensor behind', () => {
    const layerCase = cases.find(({ name }) => name.startsWith('LeNet'));
    assert.ok(layerCase);
    runCase(tf, layerCase);
    const before = tf.memory().numTensors;
    runCase(tf, layerCase);
    assert.equal(tf.memory().numTensors, before);
    modelOf(tf, layerCase).dispose();
  });
});

describe('layers that draw, on the wasm backend', () => {
  before(() => loadBackend('wasm'));

  const drawing = {
    dropout: () => tf.layers.dropout({ rate: 0.4 }),
    spatialDropout1d: () => tf.layers.spatialDropout1d({ rate: 0.4 }),
    gaussianNoise: () => tf.layers.gaussianNoise({ stddev: 0.5 }),
    gaussianDropout: () => tf.layers.gaussianDropout({ rate: 0.4 }),
    alphaDropout: () => tf.layers.alphaDropout({ rate: 0.4 }),
  };

  /** Math.random as a generator with the same start each time, as workers seed it. */
  function seeded<T>(work: () => T): T {
    const { random } = Math;
    let state = 12345;
    Math.random = () => (state = (state * 16807) % 2147483647) / 2147483647;
    try {
      return work();
    } finally {
      Math.random = random;
    }
  }

  for (const [name, make] of Object.entries(drawing)) {
    it(`${name}: gradient by central differences under the same draws`, () => {
      tf.tidy(() => {
        const layer = make();
        const shape: [number, number, number] = [2, 5, 4];
        const size = 40;
        const values = Float32Array.from({ length: size }, (_, k) => ((k * 7) % size) / 10 - 2.05);
        const upstream = tf.tensor(
          Float32Array.from({ length: size }, (_, k) => ((k * 11) % size) / 20 - 0.97),
          shape,
        );
        const total = (x: Tensor): Tensor => tf.sum(tf.mul(layer.apply(x, { training: true }) as Tensor, upstream));
        const gradient = seeded(() => tf.grad(total)(tf.tensor(values, shape)).dataSync());
        assert.ok(gradient.some((value) => value !== 0));
        // Linear in x for fixed draws, so a wide step costs nothing and keeps rounding small.
        const step = 0.5;
        for (let k = 0; k < size; k++) {
          const at = (delta: number): number =>
            seeded(
              () =>
                total(
                  tf.tensor(
                    values.map((value, index) => (index === k ? value + delta : value)),
                    shape,
                  ),
                ).dataSync()[0] as number,
            );
          const expected = (at(step) - at(-step)) / (2 * step);
          assert.ok(
            Math.abs((gradient[k] as number) - expected) < 1e-4,
            `element ${k}: ${gradient[k]} instead of ${expected}`,
          );
        }
      });
    });
  }
});
