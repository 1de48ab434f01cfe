import assert from 'node:assert/strict';
import { join } from 'node:path';
import { parseRunConfig, runConfigToYaml } from '../../../shared/config/effective.ts';
import { configWarnings, resolveRunConfig } from '../../../shared/config/resolve.ts';
import { loadRunFile, parseRunFile } from '../../../shared/config/run-file.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import { packageRoot } from '../../../shared/package-root.ts';
import { assertSays, runFileErrorOf, VALID } from './helpers.ts';

const FACTS = {
  trainExamples: 5000,
  testExamples: 100,
  backend: 'wasm' as const,
  parameterNames: ['dense_1/kernel', 'dense_1/bias'],
  prunableNames: ['dense_1/kernel'],
};

function resolved(key: string): RunConfig {
  return resolveRunConfig(parseRunFile(VALID + key, 'run.yaml'), FACTS);
}

describe('the key quantization', () => {
  it('is absent where the run file has none, also from the effective file', () => {
    const config = resolved('');
    assert.ok(!('quantization' in config));
    assert.ok(!runConfigToYaml(config).includes('quantization'));
  });

  it('quantizes weights to 8 bits per channel by default', () => {
    assert.deepEqual(resolved('quantization: {}\n').quantization, {
      weights: { bits: 8, perChannel: true },
      activations: null,
      beginStep: 0,
      match: null,
    });
  });

  for (const [beginStep, step] of [
    ['300', 300],
    ['30%', 300],
    ['3 epochs', 150],
  ] as const) {
    it(`takes beginStep ${beginStep}, and is read back from the effective file`, () => {
      const config = resolved(
        `quantization: { weights: { bits: 4 }, activations: { decay: 0.9 }, beginStep: ${beginStep}, match: '*' }\n`,
      );
      assert.deepEqual(config.quantization, {
        weights: { bits: 4, perChannel: true },
        activations: { bits: 8, decay: 0.9 },
        beginStep: step,
        match: '*',
      });
      assert.deepEqual(parseRunConfig(runConfigToYaml(config)), config);
      assert.deepEqual(configWarnings(parseRunFile(VALID, 'run.yaml'), config, FACTS), []);
    });
  }

  it('is in the example', () => {
    const { document } = loadRunFile(join(packageRoot, 'deploy', 'examples', 'quantization.yaml'));
    assert.deepEqual(document.quantization, {
      weights: { bits: 8, perChannel: true },
      activations: { bits: 8, decay: 0.99 },
      beginStep: '3 epochs',
      match: null,
    });
  });

  it('is not open in an effective file', () => {
    const error = runFileErrorOf(() => parseRunConfig(VALID + 'quantization: { beginStep: 30% }\n'));
    assertSays(error, ['quantization.beginStep: 30%', 'must be resolved']);
  });

  for (const [key, says] of [
    ['{ bits: 8 }', ['run.yaml:9:17', 'unknown key "bits" in quantization']],
    ['{ weights: { bits: 2 } }', ['run.yaml:9:34', 'quantization.weights.bits must be 8 or 4, is 2']],
    ['{ activations: { bits: 4 } }', ['run.yaml:9:38', 'another width of activations is not available']],
    ['{ activations: { decay: 1 } }', ['quantization.activations.decay must be a number >= 0 and < 1, is 1']],
    ['{ weights: null }', ['run.yaml:9:1', 'neither weights nor activations']],
    ['{ weights: null, activations: {}, match: "*" }', ['quantization.match "*" names weights']],
    ['{ match: "dense_1/kernal" }', ['run.yaml:9:24', 'matches no parameter', 'dense_1/kernel']],
    ['{ beginStep: 1001 }', ['run.yaml:9:28', 'quantization.beginStep 1001 is beyond the run, which has 1000 steps']],
    ['{ beginStep: 30 epochs }', ['quantization.beginStep 1500 (30 epochs) is beyond the run']],
  ] as const) {
    it(`refuses ${key}`, () =>
      assertSays(
        runFileErrorOf(() => resolved(`quantization: ${key}\n`)),
        says,
      ));
  }

  it('refuses to quantize nothing', () => {
    const runFile = parseRunFile(VALID.replace('"*/kernel"', '"*"') + 'quantization: {}\n', 'run.yaml');
    const error = runFileErrorOf(() => resolveRunConfig(runFile, { ...FACTS, prunableNames: [] }));
    assertSays(error, ['quantization has no match and the model has no kernels']);
  });
});
