/**
 * Follows channels through a model: which parameter slices are about the same unit. Every channel of every tensor is
 * labelled with a unit or with FIXED; weighted layers make new labels, merges join them.
 */
import type { ModelDescription } from '../layout/model-description.ts';
import { activationStatistics, layerOf } from './activation-statistics.ts';
import { isElementwise } from './activation.ts';
import { graphOf, type GraphNode, type ModelGraph } from './graph.ts';
import { ruleOf, type LayerRule } from './layer-rule.ts';
import { Unions } from './union.ts';

/** What a parameter's slice is to its unit. */
export type MemberRole =
  /** Kernel slice on the output axis: what makes the unit. */
  | 'kernel'
  | 'bias'
  | 'gamma'
  | 'beta'
  /** Depthwise kernel slice. Its bias has the role `bias`. */
  | 'depthwise'
  /** Slope of PReLU. */
  | 'alpha'
  /** Moving mean or variance, no parameter but a state. */
  | 'state'
  /** What the next layer makes of it: kernel slice on the input axis; several rows after a flatten. */
  | 'consumer';

/** The label of channels that no unit can be removed from. */
export const FIXED = -1;

/** Labels of the positions of one axis of a parameter or state. */
export interface LabelledAxis {
  readonly parameter: string;
  readonly role: MemberRole;
  readonly axis: number;
  readonly labels: Int32Array;
}

export interface Couplings {
  readonly graph: ModelGraph;
  readonly unions: Unions;
  /** The kernel that made each label. */
  readonly producers: readonly string[];
  readonly axes: readonly LabelledAxis[];
  /** Labels of each tensor's last axis; null: all fixed. */
  readonly tensors: readonly (Int32Array | null)[];
  /** Layers whose couplings are not known, by name, with the reason. */
  readonly refused: ReadonlyMap<string, string>;
}

/** Throws MODEL where the topology cannot be read. */
export function couplingsOf(description: ModelDescription): Couplings {
  return new Follower(description).follow();
}

type Labels = Int32Array | null;

class Follower {
  readonly #description: ModelDescription;
  readonly #graph: ModelGraph;
  readonly #unions = new Unions();
  readonly #producers: string[] = [];
  readonly #axes: LabelledAxis[] = [];
  readonly #tensors: Labels[];
  readonly #refused = new Map<string, string>();
  readonly #shapes: ReadonlyMap<string, readonly number[]>;

  constructor(description: ModelDescription) {
    this.#description = description;
    this.#graph = graphOf(description);
    this.#tensors = Array.from<Labels>({ length: this.#graph.numTensors }).fill(null);
    this.#shapes = new Map([...description.parameters, ...description.states].map(({ name, shape }) => [name, shape]));
  }

  follow(): Couplings {
    for (const node of this.#graph.nodes) {
      this.#tensors[node.output] = this.#pass(node, ruleOf(node, this.#graph, this.#description));
    }
    for (const output of this.#graph.outputs) this.#fix(this.#tensors[output] ?? null, OUTPUT);
    return {
      graph: this.#graph,
      unions: this.#unions,
      producers: this.#producers,
      axes: this.#axes,
      tensors: this.#tensors,
      refused: this.#refused,
    };
  }

  #pass(node: GraphNode, rule: LayerRule): Labels {
    const { layer, output } = node;
    const inputs = node.inputs.map((tensor) => this.#tensors[tensor] ?? null);
    const input = inputs[0] ?? null;
    switch (rule.kind) {
      case 'weighted':
        this.#label(rule.kernel, 'consumer', rule.inputAxis, input);
        return this.#produce(rule.kernel, rule.outputAxis, rule.bias, rule, layer.name);
      case 'depthwise': {
        this.#label(rule.kernel, 'depthwise', rule.axis, input);
        const labels = repeatEach(input, rule.multiplier);
        if (rule.bias !== null) this.#label(rule.bias, 'bias', 0, labels);
        return this.#unlessMixed(labels, rule, layer.name);
      }
      case 'separable':
        this.#label(rule.depthwise, 'depthwise', rule.axis, input);
        this.#label(rule.pointwise, 'consumer', rule.axis, repeatEach(input, rule.multiplier));
        return this.#produce(rule.pointwise, rule.axis + 1, rule.bias, rule, layer.name);
      case 'normalization':
        if (rule.gamma !== null) this.#label(rule.gamma, 'gamma', 0, input);
        if (rule.beta !== null) this.#label(rule.beta, 'beta', 0, input);
        this.#label(rule.mean, 'state', 0, input);
        this.#label(rule.variance, 'state', 0, input);
        return input;
      case 'prelu':
        this.#label(rule.alpha, 'alpha', rule.axis, input);
        return input;
      case 'activation':
        return this.#unlessMixed(input, rule, layer.name);
      case 'keep':
      case 'zeroPadding':
        return input;
      case 'reshape':
        return this.#reshape(input, this.#shape(node.inputs[0]!), this.#shape(output), layer.name);
      case 'merge':
        return this.#merge(node, inputs);
      case 'concatenate':
        return this.#concatenate(node, inputs);
      case 'opaque':
        this.#refused.set(layer.name, rule.why);
        for (const each of inputs) this.#fix(each, `they feed ${rule.why}`);
        return null;
    }
  }

  #produce(kernel: string, axis: number, bias: string | null, rule: Activated, layer: string): Labels {
    const size = this.#shapes.get(kernel)?.[axis] ?? 0;
    const first = this.#unions.add(size);
    const labels = Int32Array.from({ length: size }, (_, i) => first + i);
    for (let i = 0; i < size; i++) this.#producers.push(kernel);
    this.#label(kernel, 'kernel', axis, labels);
    if (bias !== null) this.#label(bias, 'bias', 0, labels);
    const { mean, zeros } = activationStatistics(layerOf(kernel));
    for (const statistic of [mean, zeros]) if (this.#shapes.has(statistic)) this.#label(statistic, 'state', 0, labels);
    return this.#unlessMixed(labels, rule, layer);
  }

  #label(parameter: string, role: MemberRole, axis: number, labels: Labels): void {
    if (labels === null) return;
    // A parameter that is shared between the channels is no unit's.
    if (this.#shapes.get(parameter)?.[axis] === labels.length) this.#axes.push({ parameter, role, axis, labels });
    else this.#fix(labels, `${parameter} does not have one slice for each`);
  }

  #unlessMixed(labels: Labels, { activation }: Activated, layer: string): Labels {
    if (!isElementwise(activation))
      this.#fix(labels, `the ${activation.name} of layer ${layer} is not known to keep them apart`);
    return labels;
  }

  /** Rows are in C order: element e of an example is in channel e mod size of the last axis, before and after. */
  #reshape(labels: Labels, before: readonly number[] | null, after: readonly number[] | null, layer: string): Labels {
    if (labels === null) return null;
    const total = before?.reduce((product, size) => product * size, 1);
    const channels = after?.at(-1);
    if (before === null || after === null || total === undefined || channels === undefined || total % channels !== 0) {
      this.#fix(labels, `the shapes around layer ${layer} are not known`);
      return null;
    }
    const reshaped = Int32Array.from({ length: channels }, (_, c) => labels[c % labels.length]!);
    let isSafe = true;
    for (let e = channels; e < total && isSafe; e++) isSafe = labels[e % labels.length] === reshaped[e % channels];
    if (isSafe) return reshaped;
    this.#fix(labels, `layer ${layer} puts several of them into one channel`);
    return null;
  }

  #merge({ inputs, layer }: GraphNode, labels: readonly Labels[]): Labels {
    const [first = null, ...others] = labels;
    const shapes = inputs.map((tensor) => this.#graph.shapes[tensor] ?? null);
    const isAlike = shapes.every((shape) => shape !== null && shape.at(-1) === shapes[0]?.at(-1));
    const known = labels.filter((each) => each !== null);
    if (!isAlike || first === null || known.length < labels.length) {
      for (const each of labels) this.#fix(each, `layer ${layer.name} merges them with what is not removable`);
      return null;
    }
    const why = `layer ${layer.name} merges them with what is not removable`;
    for (const other of others) {
      for (const [c, label] of first.entries()) {
        const with_ = other![c]!;
        if (label !== FIXED && with_ !== FIXED) this.#unions.join(label, with_);
        else if (label !== FIXED || with_ !== FIXED) this.#unions.fix(Math.max(label, with_), why);
      }
    }
    return first;
  }

  #concatenate({ inputs, layer }: GraphNode, labels: readonly Labels[]): Labels {
    const parts: number[] = [];
    for (const [k, each] of labels.entries()) {
      const size = each?.length ?? this.#graph.shapes[inputs[k]!]?.at(-1);
      if (typeof size !== 'number') {
        for (const known of labels) this.#fix(known, `the shapes around layer ${layer.name} are not known`);
        return null;
      }
      parts.push(...(each ?? new Int32Array(size).fill(FIXED)));
    }
    return Int32Array.from(parts);
  }

  #fix(labels: Labels, reason: string): void {
    for (const label of labels ?? []) if (label !== FIXED) this.#unions.fix(label, reason);
  }

  #shape(tensor: number): readonly number[] | null {
    const shape = this.#graph.shapes[tensor];
    return shape?.every((size) => size !== null) === true ? shape : null;
  }
}

type Activated = Extract<LayerRule, { activation: unknown }>;

/** Why units of the output layer stay; to be told from what is refused. */
export const OUTPUT = 'they are outputs of the model';

function repeatEach(labels: Labels, times: number): Labels {
  return labels === null
    ? null
    : Int32Array.from({ length: labels.length * times }, (_, i) => labels[Math.floor(i / times)]!);
}
