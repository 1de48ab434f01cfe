import assert from 'node:assert/strict';
import { afterEach, before, describe, it } from 'mocha';
import { exportRun } from '../../../deploy/export/export.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { Engine } from '../../../worker/training/engine.ts';
import { writeCheckpoint } from '../../deploy/export/support.ts';
import { engineConfig, fixture } from '../../fixtures/config.ts';
import { temporaryFolder } from '../../fixtures/user-module.ts';

/** A student without batch normalisation or dropout, so that its outputs are the same in training and evaluation. */
const STUDENT = fixture('golden-model.ts');

describe('a student with a teacher', () => {
  const folder = temporaryFolder();
  const engines: Engine[] = [];
  let teacher: string;
  let tensors: number;

  async function create(changes: Partial<RunConfig> = {}, slices = 1): Promise<Engine> {
    const engine = await Engine.create({ config: engineConfig(changes, slices) });
    engines.push(engine);
    return engine;
  }

  before(async () => {
    // Batch normalisation and dropout: in training mode the teacher would say something else at every call.
    const config = engineConfig({ model: fixture('bn-dropout-model.ts') });
    const engine = await Engine.create({ config });
    ({ folder: teacher } = await writeCheckpoint(`${folder.path}/run`, engine, { config }));
    engine.dispose();
    tensors = tf.memory().numTensors;
  });
  afterEach(() => {
    engines.splice(0).forEach((engine) => engine.dispose());
    assert.equal(tf.memory().numTensors, tensors);
  });

  /** Step 1's loss after one weight moved, to tell slopes. */
  async function lossAt(engine: Engine, index: number, h: number): Promise<number> {
    const weights = engine.initialWeights();
    weights[index] = (weights[index] as number) + h;
    engine.setWeights(weights, new Float32Array(0), 0);
    return (await engine.gradient(1, 0)).loss;
  }

  it('minimises (1 - weight) x own loss + weight x distillation, and the gradient is its slope', async () => {
    const distillation = { teacher, temperature: 4, weight: 0.5 };
    const [own, all, half] = await Promise.all([
      create(),
      create({ distillation: { ...distillation, weight: 1 } }),
      create({ distillation }),
    ]);
    const [plain, soft, both] = [await own.gradient(1, 0), await all.gradient(1, 0), await half.gradient(1, 0)];
    assert.ok(soft.loss > 0.01, `${soft.loss}`);
    assert.ok(Math.abs(both.loss - (plain.loss + soft.loss) / 2) < 1e-5);
    both.gradient.forEach((value, i) =>
      assert.ok(Math.abs(value - ((plain.gradient[i] as number) + (soft.gradient[i] as number)) / 2) < 1e-5),
    );
    for (const index of [0, 17, 339, 402]) {
      const slope = ((await lossAt(half, index, 2e-3)) - (await lossAt(half, index, -2e-3))) / 4e-3;
      assert.ok(Math.abs(slope - (both.gradient[index] as number)) < 5e-4, `${index}: ${slope}`);
    }
    assert.match(half.description.loss ?? '', /^0\.5 x \(softmax cross-entropy.*T = 4 from sha256 [0-9a-f]{64}$/);
    // Evaluation is of the student alone.
    own.keepForEvaluation(0);
    all.keepForEvaluation(0);
    assert.deepEqual(await all.evaluateChunk(0, 0), await own.evaluateChunk(0, 0));
  });

  it('asks the teacher in inference mode: the same bits again, and in every engine', async () => {
    const distillation = { teacher, temperature: 2, weight: 1 };
    const [first, second] = [await create({ distillation }, 2), await create({ distillation }, 2)];
    const found = await first.gradient(3, 1);
    assert.deepEqual(await second.gradient(3, 1), found);
    await first.gradient(4, 0);
    assert.deepEqual(await first.gradient(3, 1), found);
    const held = tf.memory().numTensors;
    for (let step = 1; step <= 20; step++) await first.gradient(step, 0);
    assert.equal(tf.memory().numTensors, held);
  });

  it('hears the same of an example whatever else is in the batch: neither batch statistics nor dropout', async () => {
    const distillation = { teacher, temperature: 2, weight: 1 };
    const whole = await (await create({ distillation })).gradient(2, 0);
    const sliced = await create({ distillation }, 4);
    let loss = 0;
    for (let slice = 0; slice < 4; slice++) loss += (await sliced.gradient(2, slice)).loss / 4;
    assert.ok(Math.abs(loss - whole.loss) < 1e-5 * whole.loss, `${loss}, not ${whole.loss}`);
  });

  it('leaves a student alone that says what its teacher says', async () => {
    const config = engineConfig();
    const engine = await create();
    const itself = await writeCheckpoint(`${folder.path}/self`, engine, { config });
    const student = await create({ distillation: { teacher: itself.folder, temperature: 3, weight: 1 } });
    student.setWeights(itself.effective, new Float32Array(0), 0);
    const { loss, gradient } = await student.gradient(1, 0);
    assert.ok(Math.abs(loss) < 1e-5, `${loss}`);
    assert.ok(gradient.every((value) => Math.abs(value) < 1e-6));
  });

  it('takes the logarithm of probabilities for logits, from a folder with model.json too', async () => {
    const logits = `tf.sequential({ layers: [tf.layers.dense({ units: 4, inputShape: [20], kernelInitializer: 'ones', name: 'd' })`;
    const [plain, soft] = await Promise.all(
      ['] })', ", tf.layers.softmax({ name: 's' })] })"].map(async (end, k) => {
        const model = folder.write(`teacher-${k}.mjs`, `export const model = (tf) => ${logits}${end};`);
        const config = engineConfig({ model });
        const engine = await create({ model });
        const written = await writeCheckpoint(`${folder.path}/teacher-${k}`, engine, { config });
        const out = `${folder.path}/exported-${k}`;
        await exportRun({ folder: written.folder, format: 'tfjs', out });
        return create({ model: STUDENT, distillation: { teacher: `${out}/model.json`, temperature: 4, weight: 1 } });
      }),
    );
    const [by, from] = [await (plain as Engine).gradient(1, 0), await (soft as Engine).gradient(1, 0)];
    assert.ok(by.loss > 0.01 && Math.abs(by.loss - from.loss) < 1e-3 * by.loss, `${by.loss}, ${from.loss}`);
  });

  it('refuses a teacher of other classes or inputs, and leaves nothing', async () => {
    const model = folder.write(
      'five.mjs',
      `export const model = (tf) => tf.sequential({ layers: [tf.layers.dense({ units: 5, inputShape: [20] })] });`,
    );
    const distillation = { teacher, temperature: 4, weight: 0.5 };
    await assert.rejects(
      Engine.create({ config: engineConfig({ model, distillation }) }),
      /\[MODEL\] the teacher .* has outputs of shape \[4\], the model has \[5\]/,
    );
    await assert.rejects(
      Engine.create({ config: engineConfig({ distillation: { ...distillation, teacher: `${teacher}-gone` } }) }),
      /\[CHECKPOINT\] .*-gone is no checkpoint/,
    );
  });
});
