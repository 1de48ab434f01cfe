import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { CriterionName } from '../../../../shared/config/types.ts';
import { activationScore } from '../../../../shared/sparsity/criterion/activation.ts';
import type { CriterionInputs } from '../../../../shared/sparsity/criterion/criterion.ts';
import { criterionNamed } from '../../../../shared/sparsity/criterion/index.ts';

const f32 = (...values: number[]): Float32Array => Float32Array.from(values);

function inputsOf(weights: Float32Array, change: Partial<CriterionInputs> = {}): CriterionInputs {
  return {
    weights,
    statistic: new Float32Array(0),
    gradients: null,
    secondMoment: null,
    indices: () => Float64Array.from(weights.keys()),
    seed: 1,
    ...change,
  };
}

const scores = (name: CriterionName, weights: Float32Array, change: Partial<CriterionInputs> = {}): Float32Array =>
  criterionNamed(name).scores(inputsOf(weights, change));

function watch(name: CriterionName, weights: Float32Array, gradients: readonly Float32Array[]): Float32Array {
  const statistic = new Float32Array(weights.length);
  for (const each of gradients) criterionNamed(name).statistic?.update(statistic, weights, each, 0, weights.length);
  return statistic;
}

const normalize = (name: CriterionName, weights: Float32Array): Float32Array => {
  const { normalize: turn } = criterionNamed(name);
  assert.ok(turn);
  return turn(scores(name, weights));
};

const finite = fc.float({ noNaN: true, noDefaultInfinity: true });
const values = fc.array(fc.oneof(finite, fc.constantFrom(0, -0, 1, -1, 1.401298464324817e-45)), { maxLength: 60 });

describe('criteria', () => {
  it('name those that exist', () => {
    assert.throws(() => criterionNamed('magnitud'), { code: 'UNSUPPORTED', message: /"magnitud".*magnitude, / });
    assert.throws(() => criterionNamed('toString'), { code: 'UNSUPPORTED' });
  });

  it('magnitude scores |w| and leaves the weights alone', () => {
    const weights = f32(-2, 0.5, -0);
    assert.deepEqual(scores('magnitude', weights), f32(2, 0.5, 0));
    assert.deepEqual(weights, f32(-2, 0.5, -0));
  });

  it('normalized magnitude is in units of the norm of the survivors', () => {
    assert.deepEqual(normalize('normalizedMagnitude', f32(3, -4)), f32(3 / (5 + 1e-8), 4 / (5 + 1e-8)));
    assert.deepEqual(normalize('normalizedMagnitude', f32(0, 0)), f32(0, 0));
    // Squares of 1e30 are beyond float32: the norm is float64.
    assert.deepEqual(normalize('normalizedMagnitude', f32(1e30)), f32(1));
  });

  it('gradient and saliency are moving averages of |g| and |w g|', () => {
    const weights = f32(2, -3, 0);
    // 0.1 |g|, then 0.9 of it and 0.1 |g| again.
    const close = (found: Float32Array, wanted: number[]): void =>
      wanted.forEach((value, i) =>
        assert.ok(Math.abs((found[i] as number) - value) < 1e-6, `${found[i]} not ${value}`),
      );
    const gradients = [f32(1, -1, 5), f32(0, 2, 5)];
    close(watch('gradient', weights, gradients), [0.09, 0.29, 0.95]);
    close(watch('saliency', weights, gradients), [0.18, 0.87, 0]);
    const statistic = f32(3, 1, 2);
    const found = scores('saliency', weights, { statistic });
    assert.deepEqual(found, statistic);
    assert.notEqual(found, statistic, 'keys take over the memory of scores');
    assert.throws(() => scores('gradient', weights), { code: 'INTERNAL' });
  });

  it('movement scores what moves away from zero above 0 and what moves to it below', () => {
    // A step is -g: w = 2 with g = -1 grows, w = 2 with g = 1 shrinks, w = -2 with g = 1 grows in magnitude.
    assert.deepEqual(watch('movement', f32(2, 2, -2), [f32(-1, 1, 1), f32(-1, 1, 1)]), f32(4, -4, 4));
  });

  it('statistics look at no element out of their range', () => {
    for (const name of ['gradient', 'saliency', 'movement'] as const) {
      const statistic = f32(7, 0, 0, 7);
      criterionNamed(name).statistic?.update(statistic, f32(1, 1, 1, 1), f32(1, 1, 1, 1), 1, 3);
      assert.equal(statistic[0], 7, name);
      assert.equal(statistic[3], 7, name);
      assert.notEqual(statistic[1], 0, name);
    }
  });

  it('fisher is w^2 v and needs v', () => {
    assert.deepEqual(scores('fisher', f32(2, -3), { secondMoment: f32(0.5, 2) }), f32(2, 18));
    assert.throws(() => scores('fisher', f32(1)), { code: 'UNSUPPORTED', message: /adam/ });
  });

  it('snip is |w g| and needs g', () => {
    assert.deepEqual(scores('snip', f32(2, -3), { gradients: f32(-0.5, 2) }), f32(1, 6));
    assert.throws(() => scores('snip', f32(1)), { code: 'PROTOCOL', message: /no gradients/ });
  });

  it('random depends on seed and flat index alone, and is uniform', () => {
    const n = 20_000;
    const all = scores('random', new Float32Array(n));
    const offset = 2 ** 33;
    const far = (start: number, length: number, seed = 1): Float32Array =>
      scores('random', new Float32Array(length), {
        seed,
        indices: () => Float64Array.from({ length }, (_, i) => start + i),
      });
    // Cut anywhere, another order of nothing: the same lots.
    assert.deepEqual(far(100, 50), all.slice(100, 150));
    assert.notDeepEqual(far(100, 50, 2), all.slice(100, 150));
    assert.notDeepEqual(far(offset, 50), all.slice(0, 50), 'indices beyond 32 bits are others');
    const mean = all.reduce((sum, score) => sum + score, 0) / n;
    // The deviation of the mean is sqrt(1 / 12 / n) = 0.002.
    assert.ok(Math.abs(mean - 0.5) < 0.01, `${mean}`);
    assert.ok(all.every((score) => score >= 0 && score < 1));
    assert.ok(new Set(all).size > n * 0.99);
  });

  it('lamp is w^2 over the sum of what ranks at or above it', () => {
    // Squares 1, 4, 9: 1/14, 4/13, 9/9.
    assert.deepEqual(normalize('lamp', f32(-1, 3, 2)), f32(1 / 14, 1, 4 / 13));
    // Of equals the first ranks lower.
    assert.deepEqual(normalize('lamp', f32(2, 2)), f32(0.5, 1));
    assert.deepEqual(normalize('lamp', f32(0, 0)), f32(0, 0));
  });

  it('lamp keeps the order of magnitudes', () => {
    fc.assert(
      fc.property(values, (list) => {
        const weights = Float32Array.from(list);
        const found = normalize('lamp', weights);
        for (let i = 0; i < list.length; i++) {
          for (let j = 0; j < list.length; j++) {
            if (Math.abs(weights[i] as number) < Math.abs(weights[j] as number))
              assert.ok((found[i] as number) <= (found[j] as number));
          }
        }
      }),
    );
  });

  it('give finite scores for finite inputs, and leave inputs alone', () => {
    const names = ['magnitude', 'gradient', 'saliency', 'movement', 'random', 'fisher', 'snip'] as const;
    fc.assert(
      fc.property(values, values, fc.constantFrom(...names), (a, b, name) => {
        const n = Math.min(a.length, b.length);
        const [weights, others] = [Float32Array.from(a.slice(0, n)), Float32Array.from(b.slice(0, n))];
        const gradients = others.slice();
        const statistic = watch(name, weights, [gradients, gradients, gradients]);
        const found = scores(name, weights, { statistic, gradients, secondMoment: others.map(Math.abs) });
        assert.equal(found.length, n);
        for (const score of found) assert.ok(Number.isFinite(score), `${name}: ${score}`);
        assert.deepEqual(weights, Float32Array.from(a.slice(0, n)));
        assert.deepEqual(gradients, others);
      }),
    );
  });

  it('let NaN and infinities of bad inputs through, to be refused where they are ranked', () => {
    assert.deepEqual(scores('snip', f32(1, 1), { gradients: f32(NaN, Infinity) }), f32(NaN, Infinity));
    assert.deepEqual(watch('saliency', f32(1), [f32(NaN)]), f32(NaN));
  });

  it('activation is for units: strong and seldom silent scores high', () => {
    assert.equal(activationScore(2, 0.25), 1.5);
    assert.equal(activationScore(0, 1), 0);
    assert.throws(() => scores('activation', f32(1)), { code: 'UNSUPPORTED', message: /neurons and filters/ });
    assert.equal(criterionNamed('activation').needs, 'activations');
  });
});
