import assert from 'node:assert/strict';
import { afterEach, beforeEach } from 'mocha';
import type { RunConfig } from '../../../shared/config/types.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { Engine } from '../../../worker/training/engine.ts';
import { engineConfig } from '../../fixtures/config.ts';
import { temporaryFolder } from '../../fixtures/user-module.ts';

/** Float32 sums in another order. */
export const TOLERANCE = 1e-6;

export function assertClose(actual: Float32Array, expected: Float32Array, tolerance = TOLERANCE): void {
  assert.equal(actual.length, expected.length);
  actual.forEach((value, i) => {
    assert.ok(Math.abs(value - (expected[i] as number)) <= tolerance, `element ${i}: ${value}, not ${expected[i]}`);
  });
}

/** To be called in a `describe`: makes engines, which are disposed of after each test, and must leave no tensor. */
export function engineTests() {
  const folder = temporaryFolder();
  const engines: Engine[] = [];
  let numModels = 0;
  let numTensors = 0;
  let tapeFailed = false;

  async function create(config: RunConfig): Promise<Engine> {
    const engine = await Engine.create({ config });
    engines.push(engine);
    return engine;
  }

  /** Two inputs x and y, labels, and a model module of the given body. */
  async function withModel(body: string, changes: Partial<RunConfig> = {}): Promise<Engine> {
    const model = folder.write(`model-${++numModels}.ts`, body);
    return await create(engineConfig({ model, ...changes }));
  }

  /** TensorFlow.js frees what a tape saved only when its gradient succeeds; a run ends when it does not. */
  function tapeFails(): void {
    tapeFailed = true;
  }

  beforeEach(() => {
    // tf.memory needs a backend, which the first test loads.
    numTensors = tf.getBackend() === undefined ? 0 : tf.memory().numTensors;
  });
  afterEach(() => {
    engines.splice(0).forEach((engine) => engine.dispose());
    if (!tapeFailed) assert.equal(tf.memory().numTensors, numTensors);
    tapeFailed = false;
  });

  return { folder, create, withModel, tapeFails };
}
