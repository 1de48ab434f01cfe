import type { LayerVariable } from '@tensorflow/tfjs-layers';
import type { AttributeProto } from '../../../protos/generated/onnx/AttributeProto.ts';
import type { NodeProto } from '../../../protos/generated/onnx/NodeProto.ts';
import type { TensorProto } from '../../../protos/generated/onnx/TensorProto.ts';
import { bytesOf } from '../../../shared/checkpoint/safetensors.ts';
import { FLOAT32, INT64 } from './proto.ts';
import { inverseOf, permute, transposed } from './transpose.ts';

/** A value of the graph by its name. */
export type ValueName = string;
export type Attributes = Readonly<Record<string, number | string | readonly number[] | { readonly float: number }>>;

/** A variable's initializer, and the axes that give back the variable's own order. */
export interface StoredWeight {
  readonly initializer: string;
  /** Shape before it was given `dims`. */
  readonly shape: readonly number[];
  readonly permutation: readonly number[];
}

/** Collects nodes and initializers; each method answers the name of the value it adds. */
export class Graph {
  readonly weights = new Map<string, StoredWeight>();
  readonly #nodes: NodeProto[] = [];
  readonly #initializers = new Map<string, TensorProto>();
  readonly #names = new Set<string>();
  /** Of values that a Transpose made: from what, and how. */
  readonly #transposes = new Map<ValueName, { readonly from: ValueName; readonly permutation: readonly number[] }>();
  #layer = '';

  /** What follows belongs to this layer: its nodes carry its name. */
  enter(layer: string): void {
    this.#layer = layer;
  }

  /** A name not taken yet. */
  reserve(wanted: string): string {
    let name = wanted;
    for (let k = 2; this.#names.has(name); k++) name = `${wanted}_${k}`;
    this.#names.add(name);
    return name;
  }

  node(opType: string, inputs: readonly ValueName[], attributes: Attributes = {}, output?: string): ValueName {
    const name = output ?? this.reserve(`${this.#layer}/${opType}`);
    const attribute = Object.entries(attributes).map(([key, value]) => attributeOf(key, value));
    this.#nodes.push({ name, opType, input: [...inputs], output: [name], attribute });
    return name;
  }

  /** Undoes an earlier Transpose where it can, so that a chain of spatial layers is not turned back and forth. */
  transpose(value: ValueName, permutation: readonly number[]): ValueName {
    if (permutation.every((axis, k) => axis === k)) return value;
    const before = this.#transposes.get(value);
    if (before !== undefined && permute(before.permutation, permutation).every((axis, k) => axis === k)) {
      return before.from;
    }
    const turned = this.node('Transpose', [value], { perm: permutation });
    this.#transposes.set(turned, { from: value, permutation });
    return turned;
  }

  /** A variable's values with its axes permuted, then seen as of shape `dims`. The same variable is stored once. */
  weight(variable: LayerVariable, permutation?: readonly number[], dims?: readonly number[]): ValueName {
    const name = variable.originalName;
    if (this.#initializers.has(name)) return name;
    const shape = variable.shape as number[];
    const order = permutation ?? shape.map((_, axis) => axis);
    const values = transposed(Float32Array.from(variable.read().dataSync()), shape, order);
    const turned = permute(shape, order);
    this.weights.set(name, { initializer: name, shape: turned, permutation: inverseOf(order) });
    return this.#initializer(name, FLOAT32, dims ?? turned, bytesOf(values));
  }

  /** Whole numbers, of shape [n]. */
  integers(values: readonly number[]): ValueName {
    const bytes = bytesOf(BigInt64Array.from(values, BigInt));
    return this.#initializer(this.reserve(`${this.#layer}/shape`), INT64, [values.length], bytes);
  }

  /** float32; a number for a scalar. */
  floats(values: number | readonly number[]): ValueName {
    const list = typeof values === 'number' ? [values] : values;
    const dims = typeof values === 'number' ? [] : [list.length];
    return this.#initializer(this.reserve(`${this.#layer}/constant`), FLOAT32, dims, bytesOf(Float32Array.from(list)));
  }

  /** Nodes in their order and initializers, without those that no output needs. */
  finish(outputs: readonly ValueName[]): { node: NodeProto[]; initializer: TensorProto[] } {
    const needed = new Set(outputs);
    const node = this.#nodes
      .toReversed()
      .filter(({ input = [], output = [] }) => {
        if (!output.some((name) => needed.has(name))) return false;
        for (const name of input) needed.add(name);
        return true;
      })
      .toReversed();
    return { node, initializer: [...this.#initializers.values()].filter(({ name = '' }) => needed.has(name)) };
  }

  #initializer(name: string, dataType: number, dims: readonly number[], rawData: Uint8Array): ValueName {
    this.#names.add(name);
    this.#initializers.set(name, { name, dataType, dims: [...dims], rawData: Buffer.from(rawData) });
    return name;
  }
}

/** A number is an INT; floats are marked as such. */
function attributeOf(name: string, value: Attributes[string]): AttributeProto {
  if (typeof value === 'number') return { name, i: value, type: 'INT' };
  if (typeof value === 'string') return { name, s: Buffer.from(value), type: 'STRING' };
  if ('float' in value) return { name, f: value.float, type: 'FLOAT' };
  return { name, ints: [...value], type: 'INTS' };
}
