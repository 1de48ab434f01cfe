import assert from 'node:assert/strict';
import { createRandom } from '../../../../shared/kernels/random.ts';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { createOptimizer, type Optimizer } from '../../../../server/parameter-server/optimizers/optimizer.ts';
import type { OptimizerConfig } from '../../../../shared/config/types.ts';

interface GoldenCase {
  readonly optimizer: string;
  readonly options: Readonly<Record<string, number | boolean>>;
  readonly initial: number[];
  readonly gradients: number[][];
  readonly weights: number[][];
}
const golden = JSON.parse(readFileSync(new URL('../../../golden/optimizers.json', import.meta.url), 'utf8')) as {
  cases: GoldenCase[];
};

const NO_DECAY = { weightDecay: 0, l2: 0, l1: 0 };

const CONFIGS: readonly OptimizerConfig[] = [
  { kind: 'sgd', learningRate: 0.1, momentum: 0, nesterov: false },
  { kind: 'sgd', learningRate: 0.1, momentum: 0.9, nesterov: true },
  { kind: 'adam', learningRate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
  { kind: 'rmsprop', learningRate: 0.01, rho: 0.99, epsilon: 1e-8, momentum: 0, centered: false },
  { kind: 'rmsprop', learningRate: 0.01, rho: 0.9, epsilon: 1e-8, momentum: 0.5, centered: true },
  { kind: 'adagrad', learningRate: 0.05, epsilon: 1e-10, initialAccumulator: 0.1 },
];

/** The golden file's names: `adamw` is adam with decoupled decay, rmsprop's `decay` is rho. */
function configOf({ optimizer, options }: GoldenCase): OptimizerConfig {
  const number = (name: string, otherwise = 0): number => Number(options[name] ?? otherwise);
  const learningRate = number('learningRate');
  switch (optimizer) {
    case 'sgd':
      return { kind: 'sgd', learningRate, momentum: number('momentum'), nesterov: options['nesterov'] === true };
    case 'adam':
    case 'adamw':
      return { kind: 'adam', learningRate, beta1: number('beta1'), beta2: number('beta2'), epsilon: number('epsilon') };
    case 'rmsprop':
      return {
        kind: 'rmsprop',
        learningRate,
        rho: number('decay'),
        epsilon: number('epsilon'),
        momentum: 0,
        centered: false,
      };
    case 'adagrad':
      return { kind: 'adagrad', learningRate, epsilon: number('epsilon'), initialAccumulator: 0 };
    default:
      throw new Error(`the golden file has a new optimizer: ${optimizer}`);
  }
}

function slotsOf(optimizer: Optimizer, size: number): Float32Array[] {
  return optimizer.slotNames.map((name) => new Float32Array(size).fill(optimizer.initialSlot(name)));
}

describe('optimizers', () => {
  assert.equal(golden.cases.length, 9);
  golden.cases.forEach((each, index) => {
    it(`golden case ${index}: ${each.optimizer} ${JSON.stringify(each.options)}`, () => {
      const config = configOf(each);
      const optimizer = createOptimizer(config);
      const weights = Float32Array.from(each.initial);
      const slots = slotsOf(optimizer, weights.length);
      const decay = {
        ...NO_DECAY,
        l2: Number(each.options['l2'] ?? 0),
        weightDecay: Number(each.options['weightDecay'] ?? 0),
      };
      each.gradients.forEach((gradient, i) => {
        const gradients = Float32Array.from(gradient);
        optimizer.apply({
          weights,
          gradients,
          slots,
          begin: 0,
          end: weights.length,
          step: i + 1,
          share: 1,
          learningRate: config.learningRate,
          decay,
        });
        each.weights[i]?.forEach((expected, k) => {
          const error = Math.abs((weights[k] as number) - expected);
          // A few units in the last place of float32: the reference rounds in between, this does not.
          assert.ok(error <= 1e-6 * Math.max(1, Math.abs(expected)), `step ${i + 1}, element ${k}: off by ${error}`);
        });
      });
    });
  });

  const values = fc.array(fc.float({ noNaN: true, min: -4, max: 4 }), { minLength: 30, maxLength: 30 });
  for (const config of CONFIGS) {
    it(`${JSON.stringify(config)} gives the same bits in any ranges, and goes on from slots and step alone`, () => {
      fc.assert(
        fc.property(values, values, fc.integer({ min: 0, max: 30 }), (initial, gradient, cut) => {
          const decay = { weightDecay: 0.01, l2: 0.02, l1: 0.03 };
          const gradients = Float32Array.from(gradient);
          const run = (ranges: readonly [number, number][], forgetful: boolean): Float32Array => {
            let optimizer = createOptimizer(config);
            const weights = Float32Array.from(initial);
            const slots = slotsOf(optimizer, 30);
            for (let step = 1; step <= 4; step++) {
              if (forgetful) optimizer = createOptimizer(config);
              for (const [begin, end] of ranges) {
                optimizer.apply({ weights, gradients, slots, begin, end, step, share: 1, learningRate: 0.1, decay });
              }
            }
            assert.ok(weights.every(Number.isFinite));
            return weights;
          };
          const whole = run([[0, 30]], false);
          assert.deepEqual(run([[cut, 30], [0, cut]], true), whole); // prettier-ignore
        }),
        { numRuns: 20 },
      );
    });
  }

  it('leave gradients and everything outside the range alone', () => {
    for (const config of CONFIGS) {
      const optimizer = createOptimizer(config);
      const weights = Float32Array.of(1, 1, 1, 1);
      const gradients = Float32Array.of(1, 2, 3, 4);
      const slots = slotsOf(optimizer, 4);
      optimizer.apply({
        weights,
        gradients,
        slots,
        begin: 1,
        end: 3,
        step: 1,
        share: 1,
        learningRate: 0.1,
        decay: NO_DECAY,
      });
      assert.deepEqual(gradients, Float32Array.of(1, 2, 3, 4));
      assert.deepEqual([weights[0], weights[3]], [1, 1]);
      assert.ok(weights[1] !== 1 && weights[2] !== 1, config.kind);
      slots.forEach((slot, i) =>
        assert.equal(slot[3], Math.fround(optimizer.initialSlot(optimizer.slotNames[i] ?? ''))),
      );
    }
  });

  it('decay weights decoupled, and pull them to 0 by L1 without crossing it', () => {
    const step = (weight: number, decay: Partial<typeof NO_DECAY>): number => {
      const weights = Float32Array.of(weight);
      const rest = {
        gradients: new Float32Array(1),
        slots: [],
        begin: 0,
        end: 1,
        step: 1,
        share: 1,
        learningRate: 0.5,
      };
      createOptimizer(CONFIGS[0] as OptimizerConfig).apply({ weights, ...rest, decay: { ...NO_DECAY, ...decay } });
      return weights[0] as number;
    };
    assert.equal(step(2, { weightDecay: 0.25 }), 1.75); // 2 - 0.5 * 0.25 * 2
    assert.equal(step(2, { l2: 0.25 }), 1.75); // the same for plain descent
    assert.equal(step(2, { l1: 0.25 }), 1.875); // 2 - 0.5 * 0.25
    assert.equal(step(-2, { l1: 0.25 }), -1.875);
    assert.ok(Object.is(step(-0.1, { l1: 0.25 }), 0));
    assert.ok(Object.is(step(0.125, { l1: 0.25 }), 0));
  });

  it('centered rmsprop stays finite where rounding makes the variance negative', () => {
    const config = {
      kind: 'rmsprop',
      learningRate: 0.1,
      rho: 0.9,
      epsilon: 1e-8,
      momentum: 0,
      centered: true,
    } as const;
    const weights = Float32Array.of(1);
    // The average of equal gradients: its square and the average square differ by rounding alone.
    const slots = [Float32Array.of(1.9999998807907104), Float32Array.of(Math.SQRT2)];
    const gradients = Float32Array.of(Math.SQRT2);
    createOptimizer(config).apply({
      weights,
      gradients,
      slots,
      begin: 0,
      end: 1,
      step: 1,
      share: 1,
      learningRate: 1e-9,
      decay: NO_DECAY,
    });
    assert.ok(Number.isFinite(weights[0]));
  });

  it('with a learning rate of 0 change no weight', () => {
    for (const config of CONFIGS) {
      const optimizer = createOptimizer(config);
      const weights = Float32Array.of(1.5);
      const gradients = Float32Array.of(1);
      const slots = slotsOf(optimizer, 1);
      const decay = { weightDecay: 0.1, l2: 0.1, l1: 0.1 };
      optimizer.apply({ weights, gradients, slots, begin: 0, end: 1, step: 1, share: 1, learningRate: 0, decay });
      assert.equal(weights[0], 1.5);
    }
  });

  it('takes noisy parts of a batch as it takes the whole, in the mean: adam and rmsprop', () => {
    const PARTS = 8;
    const STEPS = 400;
    for (const config of CONFIGS.filter(({ kind }) => kind === 'adam' || kind === 'rmsprop')) {
      const moved = (parts: number): number => {
        const random = createRandom(5, 1);
        const optimizer = createOptimizer({ ...config, learningRate: 0.001 });
        const size = 64;
        const weights = new Float32Array(size);
        const slots = slotsOf(optimizer, size);
        for (let step = 1; step <= STEPS; step++) {
          // A mean of 0.3 under noise of deviation 1, which the mean over a batch has less of.
          const noisy = Array.from({ length: PARTS }, () =>
            Float32Array.from({ length: size }, () => 0.3 + Math.sqrt(12) * (random.float() - 0.5)),
          );
          const whole = Float32Array.from({ length: size }, (_, i) =>
            noisy.reduce((sum, part) => sum + (part[i] as number) / PARTS, 0),
          );
          for (const gradients of parts === 1 ? [whole] : noisy) {
            const [share, learningRate] = [1 / parts, 0.001 / parts];
            optimizer.apply({
              weights,
              gradients,
              slots,
              begin: 0,
              end: size,
              step,
              share,
              learningRate,
              decay: NO_DECAY,
            });
          }
        }
        return weights.reduce((sum, weight) => sum + weight, 0) / size;
      };
      const ratio = moved(PARTS) / moved(1);
      // By the plain share of the learning rate it would be about half.
      assert.ok(ratio > 0.85 && ratio < 1.5, `${config.kind}: ${ratio}`);
    }
  });
});
