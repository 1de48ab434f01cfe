import assert from 'node:assert/strict';
import fc from 'fast-check';
import { cos, exp, log, pow, powInt } from '../../../shared/kernels/math.ts';

function near(actual: number, expected: number, what: string): void {
  const error = Math.abs(actual - expected) / Math.max(Math.abs(expected), 1e-300);
  assert.ok(error < 1e-12, `${what}: ${actual} instead of ${expected}`);
}
const number = (min: number, max: number): fc.Arbitrary<number> => fc.double({ min, max, noNaN: true });

describe('deterministic math', () => {
  it('exp', () => fc.assert(fc.property(number(-690, 709), (x) => near(exp(x), Math.exp(x), `exp(${x})`))));
  it('log', () => fc.assert(fc.property(number(1e-310, 1e308), (x) => near(log(x), Math.log(x), `log(${x})`))));
  it('log near 1', () => fc.assert(fc.property(number(0.5, 2), (x) => near(log(x), Math.log(x), `log(${x})`))));
  it('cos', () => fc.assert(fc.property(number(-1000, 1000), (x) => near(cos(x), Math.cos(x), `cos(${x})`))));
  it('pow', () => {
    fc.assert(
      fc.property(number(0.001, 1000), number(-20, 20), (x, y) => near(pow(x, y), Math.pow(x, y), `${x}^${y}`)),
    );
  });
  it('powInt', () => {
    fc.assert(
      fc.property(number(0.5, 1.1), fc.integer({ min: -300, max: 300 }), (x, n) =>
        near(powInt(x, n), Math.pow(x, n), `${x}^${n}`),
      ),
    );
  });

  it('is exact where it must be', () => {
    assert.deepEqual(
      [exp(0), log(1), cos(0), pow(2, 10), powInt(-3, 3), powInt(2, -2), powInt(0, 0)],
      [1, 0, 1, 1024, -27, 0.25, 1],
    );
    assert.deepEqual([exp(-800), exp(800), log(0), log(Infinity), pow(0, 0.5)], [0, Infinity, -Infinity, Infinity, 0]);
    assert.deepEqual([exp(NaN), log(-1), cos(Infinity)], [NaN, NaN, NaN]);
  });

  it('has the same bits everywhere', () => {
    // Written down once. Another number on another machine or Node.js version would change runs.
    const bits = (x: number): string => {
      const view = new DataView(new ArrayBuffer(8));
      view.setFloat64(0, x);
      return view.getBigUint64(0).toString(16);
    };
    assert.deepEqual([exp(1), log(10), cos(1), pow(0.3, 2.5), powInt(0.999, 1000)].map(bits), [
      '4005bf0a8b14576a',
      '40026bb1bbb55516',
      '3fe14a280fb5068c',
      '3fa93d32bceafc28',
      '3fd788526411edac',
    ]);
  });
});
