/**
 * exp, log, pow and cos from additions, multiplications and divisions alone. IEEE 754 fixes every bit of
 * those, while the bits of Math.exp, Math.pow and Math.cos differ between Node.js versions. Relative error
 * below 1e-12. Polynomials and reductions are those of fdlibm (Sun Microsystems, 1993).
 */

const LN2_HIGH = 6.9314718036912381649e-1;
const LN2_LOW = 1.90821492927058770002e-10;
const TWO_OVER_PI = 6.36619772367581382433e-1;
/** pi/2 in three parts; products of the first two with whole numbers below 2^20 are exact. */
const HALF_PI_1 = 1.57079632673412561417;
const HALF_PI_2 = 6.0771005063039659766e-11;
const HALF_PI_3 = 2.02226624879595063154e-21;

/** `base` to a whole-number power, by repeated squaring; the reciprocal for negative ones. */
export function powInt(base: number, exponent: number): number {
  let result = 1;
  let square = base;
  for (let rest = Math.abs(exponent); rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result *= square;
    square *= square;
  }
  return exponent < 0 ? 1 / result : result;
}

/** e^x. 0 below -745, Infinity above 710. */
export function exp(x: number): number {
  if (Number.isNaN(x)) return NaN;
  if (x > 709.782712893384) return Infinity;
  if (x < -745.1332191019412) return 0;
  const k = Math.floor(x / (LN2_HIGH + LN2_LOW) + 0.5);
  const high = x - k * LN2_HIGH;
  const low = k * LN2_LOW;
  const r = high - low;
  const t = r * r;
  const c =
    r -
    t *
      (1.66666666666666019037e-1 +
        t *
          (-2.77777777770155933842e-3 +
            t * (6.61375632143793436117e-5 + t * (-1.6533902205465251539e-6 + t * 4.13813679705723846039e-8))));
  const y = 1 - (low - (r * c) / (2 - c) - high);
  // Two factors, since 2^1024 and 2^-1075 are out of range where the product is not.
  const half = Math.floor(k / 2);
  return y * powInt(2, half) * powInt(2, k - half);
}

const view = new DataView(new ArrayBuffer(8));

/** Natural logarithm. NaN below 0, -Infinity at 0. */
export function log(x: number): number {
  if (Number.isNaN(x) || x < 0) return NaN;
  if (x === 0) return -Infinity;
  if (x === Infinity) return Infinity;
  // x = 2^k * m with m in [sqrt(2)/2, sqrt(2)).
  let k = 0;
  let normal = x;
  if (x < 2.2250738585072014e-308) {
    normal = x * 18014398509481984;
    k = -54;
  }
  view.setFloat64(0, normal);
  const highWord = view.getUint32(0);
  k += (highWord >>> 20) - 1023;
  view.setUint32(0, (highWord & 0x000fffff) | 0x3ff00000);
  let m = view.getFloat64(0);
  if (m > Math.SQRT2) {
    m /= 2;
    k += 1;
  }
  const f = m - 1;
  const s = f / (2 + f);
  const z = s * s;
  const w = z * z;
  const odd = w * (3.999999999940941908e-1 + w * (2.222219843214978396e-1 + w * 1.531383769920937332e-1));
  const even =
    z *
    (6.66666666666673513e-1 +
      w * (2.857142874366239149e-1 + w * (1.818357216161805012e-1 + w * 1.479819860511658591e-1)));
  const halfSquare = 0.5 * f * f;
  return k * LN2_HIGH - (halfSquare - (s * (halfSquare + odd + even) + k * LN2_LOW) - f);
}

/** `base` >= 0 to any power. Whole-number powers by repeated multiplication. */
export function pow(base: number, exponent: number): number {
  if (Number.isInteger(exponent)) return powInt(base, exponent);
  return exp(exponent * log(base));
}

/** Cosine of `x` radians, |x| below 1e6. */
export function cos(x: number): number {
  if (!Number.isFinite(x)) return NaN;
  const n = Math.floor(Math.abs(x) * TWO_OVER_PI + 0.5);
  const first = Math.abs(x) - n * HALF_PI_1;
  const second = first - n * HALF_PI_2;
  // What `second` lost by rounding, and the third part.
  const tail = n * HALF_PI_3 - (first - second - n * HALF_PI_2);
  const high = second - tail;
  const low = second - high - tail;
  switch (n % 4) {
    case 0:
      return kernelCos(high, low);
    case 1:
      return -kernelSin(high, low);
    case 2:
      return -kernelCos(high, low);
    default:
      return kernelSin(high, low);
  }
}

/** cos(x + y) for |x| <= pi/4 and tiny y. */
function kernelCos(x: number, y: number): number {
  const z = x * x;
  const r =
    z *
    (4.16666666666666019037e-2 +
      z *
        (-1.38888888888741095749e-3 +
          z *
            (2.48015872894767294178e-5 +
              z * (-2.75573143513906633035e-7 + z * (2.0875723212981748279e-9 + z * -1.13596475577881948265e-11)))));
  return 1 - (0.5 * z - (z * r - x * y));
}

/** sin(x + y) for |x| <= pi/4 and tiny y. */
function kernelSin(x: number, y: number): number {
  const z = x * x;
  const v = z * x;
  const r =
    8.33333333332248946124e-3 +
    z *
      (-1.98412698298579493134e-4 +
        z * (2.75573137070700676789e-6 + z * (-2.50507602534068634195e-8 + z * 1.58969099521155010221e-10)));
  return x - (z * (0.5 * y - v * r) - y - v * -1.66666666666666324348e-1);
}
