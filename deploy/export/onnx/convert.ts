import type { LayersModel, SymbolicTensor } from '@tensorflow/tfjs-layers';
import type { ModelProto } from '../../../protos/generated/onnx/ModelProto.ts';
import type { ValueInfoProto } from '../../../protos/generated/onnx/ValueInfoProto.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { whittleVersion } from '../../../shared/version.ts';
import { isContainer, viewOf } from '../../../worker/model/layer-tree.ts';
import { Graph, type StoredWeight } from './graph.ts';
import type { LayerUse, Value } from './layer.ts';
import { FLOAT32 } from './proto.ts';
import { CONVERTERS } from './registry.ts';

/** The oldest that has all operators in the form used here; runtimes of 2021 read it. */
const OPSET = 13;
const IR_VERSION = 7;

export interface Converted {
  readonly model: ModelProto;
  /** By the name of the variable. */
  readonly weights: ReadonlyMap<string, StoredWeight>;
}

type Layer = SymbolicTensor['sourceLayer'];
/** Values of a model's tensors by their ids. A nested model has its own at each use. */
type Scope = Map<number, Value>;

/**
 * A LayersModel as ONNX: dense float32 weights, inputs and outputs under the names and with the axes of TensorFlow.js.
 * Errors: UNSUPPORTED, naming the first layer that has no counterpart here.
 */
export function convertModel(model: LayersModel, metadata: Readonly<Record<string, string>>): Converted {
  const graph = new Graph();
  // The names that TensorFlow.js itself gives them; a Sequential has no list of its own before it is used.
  const inputNames = model.inputs.map(({ sourceLayer }) => graph.reserve(sourceLayer.name));
  const outputNames = model.outputs.map(({ sourceLayer }) => graph.reserve(sourceLayer.name));
  const scope: Scope = new Map(model.inputs.map(({ id, shape }, k) => [id, { name: inputNames[k] as string, shape }]));
  const converter = new Converter(graph);
  for (const [k, output] of model.outputs.entries()) {
    const { name } = converter.valueOf(output, scope);
    graph.node('Identity', [name], {}, outputNames[k]);
  }
  const { node, initializer } = graph.finish(outputNames);
  const info = ({ shape }: SymbolicTensor, name: string): ValueInfoProto => ({
    name,
    type: { tensorType: { elemType: FLOAT32, shape: { dim: shape.map((size, axis) => dimension(size, axis, name)) } } },
  });
  return {
    weights: graph.weights,
    model: {
      irVersion: IR_VERSION,
      producerName: 'whittle',
      producerVersion: whittleVersion,
      opsetImport: [{ domain: '', version: OPSET }],
      metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
      graph: {
        name: model.name,
        node,
        initializer,
        input: model.inputs.map((tensor, k) => info(tensor, inputNames[k] as string)),
        output: model.outputs.map((tensor, k) => info(tensor, outputNames[k] as string)),
      },
    },
  };
}

function dimension(size: number | null, axis: number, name: string): { dimValue: number } | { dimParam: string } {
  if (size !== null) return { dimValue: size };
  return { dimParam: axis === 0 ? 'batch' : `${name}_${axis}` };
}

class Converter {
  readonly #graph: Graph;
  readonly #inner = new Map<Scope, Map<string, Scope>>();

  constructor(graph: Graph) {
    this.#graph = graph;
  }

  valueOf(tensor: SymbolicTensor, scope: Scope): Value {
    const known = scope.get(tensor.id);
    if (known !== undefined) return known;
    const { sourceLayer: layer, nodeIndex, tensorIndex } = tensor;
    const inputs = (layer.inboundNodes[nodeIndex]?.inputTensors ?? []).map((each) => this.valueOf(each, scope));
    const name = isContainer(viewOf(layer))
      ? this.#nested(layer, nodeIndex, tensorIndex, inputs, scope)
      : this.#layer(layer, inputs, tensor.shape);
    const value = { name, shape: tensor.shape };
    scope.set(tensor.id, value);
    return value;
  }

  #layer(layer: Layer, inputs: readonly Value[], outputShape: readonly (number | null)[]): string {
    const className = layer.getClassName();
    const convert = Object.hasOwn(CONVERTERS, className) ? CONVERTERS[className] : undefined;
    const [first, ...rest] = inputs;
    if (convert === undefined || first === undefined) {
      throw new WhittleError(
        'UNSUPPORTED',
        `layer ${layer.name} (${className}) cannot be exported as ONNX, which is written for ` +
          `${Object.keys(CONVERTERS).join(', ')}; export with --format tfjs or safetensors`,
        { data: { layer: layer.name, className } },
      );
    }
    this.#graph.enter(layer.name);
    const use: LayerUse = {
      name: layer.name,
      className,
      config: layer.getConfig(),
      weights: layer.weights,
      inputs: [first, ...rest],
      outputShape,
    };
    return convert(this.#graph, use);
  }

  /** One use of a nested model: its layers again, its weights once. */
  #nested(layer: Layer, nodeIndex: number, tensorIndex: number, inputs: readonly Value[], outer: Scope): string {
    const { inputs: own, outputs } = layer as unknown as LayersModel;
    const uses = this.#inner.get(outer) ?? new Map<string, Scope>();
    this.#inner.set(outer, uses);
    const key = `${layer.id}/${nodeIndex}`;
    const inner: Scope = uses.get(key) ?? new Map(own.map(({ id }, k) => [id, inputs[k] as Value]));
    uses.set(key, inner);
    return this.valueOf(outputs[tensorIndex] as SymbolicTensor, inner).name;
  }
}
