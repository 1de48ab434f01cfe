/**
 * What units that are to go compute, and where it goes: a constant that reaches a weighted layer is folded into its
 * bias. Where it cannot be, the unit stays, with the reason.
 */
import type { ModelDescription } from '../layout/model-description.ts';
import { activationAt } from '../model-graph/activation.ts';
import { FIXED, type Couplings } from '../model-graph/couplings.ts';
import type { GraphNode } from '../model-graph/graph.ts';
import { ruleOf, type LayerRule } from '../model-graph/layer-rule.ts';
import { forEachOnAxis, type EffectiveValues } from './effective.ts';

/** An addition to a bias that makes up for a unit. */
export interface Fold {
  readonly bias: string;
  /** One an element of the bias. */
  readonly amounts: Float64Array;
}

export interface Traced {
  /** Units that may go. */
  readonly removable: Set<number>;
  /** Candidates that stay, and why. */
  readonly blocked: ReadonlyMap<number, string>;
  /** For each unit that may go. */
  readonly folds: ReadonlyMap<number, readonly Fold[]>;
}

/** @param candidates representatives of coupled units */
export function traceConstants(
  description: ModelDescription,
  couplings: Couplings,
  values: EffectiveValues,
  candidates: ReadonlySet<number>,
): Traced {
  const tracer = new Tracer(couplings, values, candidates);
  for (const node of couplings.graph.nodes) tracer.pass(node, ruleOf(node, couplings.graph, description));
  const removable = new Set([...candidates].filter((unit) => !tracer.blocked.has(unit)));
  return { removable, blocked: tracer.blocked, folds: tracer.folds };
}

/** Value of each channel where it is the same for all inputs and places, NaN where it is not; null: nowhere. */
type Values = Float64Array | null;

class Tracer {
  readonly blocked = new Map<number, string>();
  readonly folds = new Map<number, Fold[]>();
  readonly #couplings: Couplings;
  readonly #values: EffectiveValues;
  readonly #candidates: ReadonlySet<number>;
  readonly #tensors: Values[];
  /** Why a unit that computed a constant computes none any more. */
  readonly #varies = new Map<number, string>();

  constructor(couplings: Couplings, values: EffectiveValues, candidates: ReadonlySet<number>) {
    this.#couplings = couplings;
    this.#values = values;
    this.#candidates = candidates;
    this.#tensors = Array.from<Values>({ length: couplings.graph.numTensors }).fill(null);
  }

  pass(node: GraphNode, rule: LayerRule): void {
    this.#tensors[node.output] = this.#through(node, rule);
  }

  #through(node: GraphNode, rule: LayerRule): Values {
    const { layer, inputs, output } = node;
    const input = this.#tensors[inputs[0]!] ?? null;
    const labels = this.#couplings.tensors[inputs[0]!] ?? null;
    const outLabels = this.#couplings.tensors[output] ?? null;
    const map = (change: (value: number, channel: number) => number): Values => input?.map(change) ?? null;
    switch (rule.kind) {
      case 'weighted':
        this.#read(layer.name, { ...rule, outputs: rule.outputAxis }, labels, input, rule.isPadded);
        return this.#produced(rule.kernel, rule.outputAxis, rule.bias, rule, outLabels);
      case 'separable': {
        const filtered = this.#filtered(rule.depthwise, rule.multiplier, rule.isPadded, input, labels, layer.name);
        const repeated = labels === null ? null : repeat(labels, rule.multiplier);
        const pointwise = { kernel: rule.pointwise, inputAxis: rule.axis, outputs: rule.axis + 1, bias: rule.bias };
        this.#read(layer.name, pointwise, repeated, filtered, false);
        return this.#produced(rule.pointwise, rule.axis + 1, rule.bias, rule, outLabels);
      }
      case 'depthwise': {
        const filtered = this.#filtered(rule.kernel, rule.multiplier, rule.isPadded, input, labels, layer.name);
        const bias = rule.bias === null ? null : this.#values.of(rule.bias);
        return filtered?.map((value, c) => activationAt(rule.activation, value + (bias?.[c] ?? 0))) ?? null;
      }
      case 'normalization': {
        const [mean, variance] = [this.#values.of(rule.mean), this.#values.of(rule.variance)];
        const gamma = rule.gamma === null ? null : this.#values.of(rule.gamma);
        const beta = rule.beta === null ? null : this.#values.of(rule.beta);
        return map((value, c) => {
          const scale = (gamma?.[c] ?? 1) / Math.sqrt(variance[c]! + rule.epsilon);
          return (scale === 0 ? 0 : (value - mean[c]!) * scale) + (beta?.[c] ?? 0);
        });
      }
      case 'prelu':
        return map((value, c) => (value < 0 ? value * this.#slope(rule, c, labels, layer.name) : value));
      case 'activation':
        return map((value) => activationAt(rule.activation, value));
      case 'zeroPadding':
        return map((value, c) =>
          value === 0 ? 0 : this.#vary(labels, c, value, `layer ${layer.name} puts zeros around`),
        );
      case 'keep':
        return input;
      case 'reshape':
        return this.#reshaped(input, labels, outLabels, layer.name);
      case 'merge':
        return this.#merged(rule.operation, inputs);
      case 'concatenate':
        return this.#concatenated(inputs, outLabels);
      case 'opaque':
        return null;
    }
  }

  /** Outputs of a weighted layer: constant where the kernel slice is zeros. */
  #produced(
    kernel: string,
    axis: number,
    bias: string | null,
    rule: Extract<LayerRule, { activation: unknown }>,
    labels: Int32Array | null,
  ): Values {
    if (labels === null) return null;
    const weights = this.#values.of(kernel);
    const offsets = bias === null ? null : this.#values.of(bias);
    const outputs = Float64Array.from(labels, (label, o) =>
      this.#candidate(label) === null ? NaN : activationAt(rule.activation, offsets?.[o] ?? 0),
    );
    forEachOnAxis(this.#values.shape(kernel), axis, (element, o) => {
      if (weights[element] !== 0) outputs[o] = NaN;
    });
    return outputs;
  }

  /** A weighted layer reads candidates: their constants become folds, or they stay. */
  #read(
    layer: string,
    { kernel, inputAxis, outputs, bias }: { kernel: string; inputAxis: number; outputs: number; bias: string | null },
    labels: Int32Array | null,
    input: Values,
    isPadded: boolean,
  ): void {
    if (labels === null) return;
    const weights = this.#values.of(kernel);
    const shape = this.#values.shape(kernel);
    const outputSize = shape[outputs] ?? 0;
    const inner = shape.slice(outputs + 1).reduce((product, size) => product * size, 1);
    const folds = new Map<number, Float64Array>();
    forEachOnAxis(shape, inputAxis, (element, i) => {
      const unit = this.#candidate(labels[i]!);
      const weight = weights[element]!;
      const value = input?.[i] ?? NaN;
      if (unit === null || weight === 0 || value === 0) return;
      const o = Math.floor(element / inner) % outputSize;
      if (Number.isNaN(value)) {
        this.#block(unit, this.#varies.get(unit) ?? `layer ${layer} reads it`);
      } else if (isPadded) {
        this.#block(
          unit,
          `its constant ${shown(value)} meets the padding of layer ${layer}, so that no bias makes up for it`,
        );
      } else if (bias === null) {
        this.#block(unit, `layer ${layer} has no bias that its constant ${shown(value)} could be folded into`);
      } else if (!this.#values.survives(bias, o)) {
        this.#block(unit, `its constant ${shown(value)} could only be folded into what is pruned of ${bias}`);
      } else {
        const amounts = folds.get(unit) ?? new Float64Array(outputSize);
        amounts[o]! += value * weight;
        folds.set(unit, amounts);
      }
    });
    for (const [unit, amounts] of folds) {
      if (bias !== null) this.folds.set(unit, [...(this.folds.get(unit) ?? []), { bias, amounts }]);
    }
  }

  /** What a depthwise kernel, [..., in, multiplier], makes of constants, without its bias. */
  #filtered(
    kernel: string,
    multiplier: number,
    isPadded: boolean,
    input: Values,
    labels: Int32Array | null,
    layer: string,
  ): Values {
    if (input === null || labels === null) return null;
    const weights = this.#values.of(kernel);
    const sums = new Float64Array(input.length * multiplier);
    const taps = new Uint8Array(sums.length);
    // Channel and multiplier are the last two axes, so that their position is the element's remainder.
    for (const [element, weight] of weights.entries()) {
      sums[element % sums.length]! += weight;
      if (weight !== 0) taps[element % sums.length] = 1;
    }
    return sums.map((sum, j) => {
      const c = Math.floor(j / multiplier);
      const value = input[c]!;
      if (value === 0 || taps[j] === 0) return 0;
      return isPadded ? this.#vary(labels, c, value, `it meets the padding of layer ${layer}`) : value * sum;
    });
  }

  /** Slope of a channel, [..., channels]; NaN where it differs from place to place. */
  #slope(
    { alpha }: Extract<LayerRule, { kind: 'prelu' }>,
    channel: number,
    labels: Int32Array | null,
    layer: string,
  ): number {
    const slopes = this.#values.of(alpha);
    const channels = this.#values.shape(alpha).at(-1) ?? 1;
    for (let e = channel; e < slopes.length; e += channels) {
      if (slopes[e] !== slopes[channel]) return this.#vary(labels, channel, 1, `the slopes of layer ${layer} differ`);
    }
    return slopes[channel]!;
  }

  #reshaped(input: Values, labels: Int32Array | null, outLabels: Int32Array | null, layer: string): Values {
    if (input === null || outLabels === null) return null;
    const [before, after] = [input.length, outLabels.length];
    const outputs = Float64Array.from(outLabels, (_, c) => input[c % before]!);
    for (let e = after; e < before; e++) {
      const [value, first] = [input[e]!, outputs[e % after]!];
      if (value !== first && !Number.isNaN(first))
        outputs[e % after] = this.#vary(labels, e, value, `layer ${layer} puts other values beside it`);
    }
    return outputs;
  }

  #merged(operation: Extract<LayerRule, { kind: 'merge' }>['operation'], inputs: readonly number[]): Values {
    const all = inputs.map((tensor) => this.#tensors[tensor] ?? null);
    if (all.some((each) => each === null)) return null;
    const known = all.filter((each) => each !== null);
    const merge = {
      Add: (a: number, b: number) => a + b,
      Average: (a: number, b: number) => a + b,
      Maximum: Math.max,
      Minimum: Math.min,
      Multiply: (a: number, b: number) => a * b,
    }[operation];
    const divisor = operation === 'Average' ? known.length : 1;
    return known[0]!.map((_, c) => known.map((each) => each[c]!).reduce((a, b) => merge(a, b)) / divisor);
  }

  #concatenated(inputs: readonly number[], outLabels: Int32Array | null): Values {
    if (outLabels === null) return null;
    const { tensors, graph } = this.#couplings;
    return Float64Array.from(
      inputs.flatMap((tensor) => {
        const size = tensors[tensor]?.length ?? graph.shapes[tensor]?.at(-1) ?? 0;
        return [...(this.#tensors[tensor] ?? new Float64Array(size).fill(NaN))];
      }),
    );
  }

  /** The unit of a label where it is one that may go. */
  #candidate(label: number): number | null {
    if (label === FIXED) return null;
    const unit = this.#couplings.unions.find(label);
    return this.#candidates.has(unit) ? unit : null;
  }

  /** NaN, and for a unit that was constant, why it is not. */
  #vary(labels: Int32Array | null, channel: number, value: number, why: string): number {
    const unit = this.#candidate(labels?.[channel] ?? FIXED);
    if (unit !== null && !Number.isNaN(value) && !this.#varies.has(unit))
      this.#varies.set(unit, `its constant ${shown(value)} does not stay one: ${why}`);
    return NaN;
  }

  #block(unit: number, why: string): void {
    if (!this.blocked.has(unit)) this.blocked.set(unit, why);
  }
}

function shown(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function repeat(labels: Int32Array, times: number): Int32Array {
  return Int32Array.from({ length: labels.length * times }, (_, i) => labels[Math.floor(i / times)]!);
}
