import { exp, log } from '../kernels/math.ts';

export interface Activation {
  /** TensorFlow.js's name, or that of its layer. */
  readonly name: string;
  /** Slope, threshold or bound where the layer has one. */
  readonly parameter?: number;
}

const sigmoid = (x: number): number => (x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)));
const tanh = (x: number): number => 2 * sigmoid(2 * x) - 1;
const softplus = (x: number): number => Math.max(x, 0) + log(1 + exp(-Math.abs(x)));
const elu = (x: number, alpha: number): number => (x >= 0 ? x : alpha * (exp(x) - 1));

/** Abramowitz and Stegun 1964, 7.1.26, as TensorFlow.js: within 1.5e-7. */
function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - tail * exp(-x * x));
}

/** Activations of TensorFlow.js that act on each element by itself, by the name of function or layer. */
const ELEMENTWISE: Readonly<Record<string, (x: number, parameter: number | undefined) => number>> = {
  linear: (x) => x,
  relu: (x) => Math.max(x, 0),
  relu6: (x) => Math.min(Math.max(x, 0), 6),
  elu: (x) => elu(x, 1),
  selu: (x) => 1.0507009873554805 * elu(x, 1.6732632423543772),
  sigmoid,
  hardSigmoid: (x) => Math.min(Math.max(0.2 * x + 0.5, 0), 1),
  softplus,
  softsign: (x) => x / (1 + Math.abs(x)),
  tanh,
  swish: (x) => x * sigmoid(x),
  mish: (x) => x * tanh(softplus(x)),
  gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  gelu_new: (x) => 0.5 * x * (1 + tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))),
  ReLU: (x, bound = Infinity) => Math.min(Math.max(x, 0), bound),
  LeakyReLU: (x, slope = 0.3) => (x >= 0 ? x : slope * x),
  ELU: (x, alpha = 1) => elu(x, alpha),
  ThresholdedReLU: (x, theta = 1) => (x > theta ? x : 0),
};

/** False for activations in which channels depend on each other (softmax), and for those of the user's own. */
export function isElementwise({ name }: Activation): boolean {
  return Object.hasOwn(ELEMENTWISE, name);
}

/** The activation's value at `x`, in float64. */
export function activationAt({ name, parameter }: Activation, x: number): number {
  return ELEMENTWISE[name]?.(x, parameter) ?? NaN;
}
