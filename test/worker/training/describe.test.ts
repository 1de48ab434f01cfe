import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { describeJob } from '../../../worker/training/describe.ts';
import { fixture } from '../../fixtures/config.ts';

const RUN_FILE = `
name: check
seed: 1
model: ./bn-dropout-model.ts
data: { source: ./golden-data.ts, batchSize: 32 }
cluster: { workers: 2, backend: wasm }
training: { epochs: 3, optimizer: { kind: sgd, learningRate: 0.1 } }
sparsity:
  - schedule: { kind: polynomial, finalSparsity: 0.5, beginStep: 4, endStep: 12, frequency: 4 }
`;

describe('describeJob', () => {
  it('resolves the run file by its model, data and machine', async () => {
    const { description, config, warnings } = await describeJob(parseRunFile(RUN_FILE, fixture('run.yaml')));
    assert.deepEqual([description.trainExamples, description.testExamples], [256, 256]);
    assert.equal(config.training.steps, 24); // 3 x 256 / 32
    assert.deepEqual([config.cluster.backend, config.cluster.slices], ['wasm', 2]);
    assert.deepEqual(
      description.parameters.filter(({ prunable }) => prunable).map(({ name }) => name),
      ['dense_1/kernel', 'dense_2/kernel'],
    );
    assert.deepEqual(warnings, []);
  });

  it('leaves no tensor', async () => {
    await describeJob(parseRunFile(RUN_FILE, fixture('run.yaml')));
    const before = tf.memory().numTensors;
    await describeJob(parseRunFile(RUN_FILE, fixture('run.yaml')));
    assert.equal(tf.memory().numTensors, before);
  });

  it('finds a glob that matches no parameter before anything is started', async () => {
    const text = RUN_FILE.replace('- schedule', '- match: "fc/*"\n    schedule');
    await assert.rejects(describeJob(parseRunFile(text, fixture('run.yaml'))), /fc\/\*/);
  });
});
