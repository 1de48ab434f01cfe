/**
 * A LayersModel's topology (as TensorFlow.js writes it, under canonical names) as a list of layer calls in the order in
 * which they are computed, nested models entered.
 */
import { WhittleError } from '../errors.ts';
import type { ModelDescription } from '../layout/model-description.ts';

export type Json = Record<string, unknown>;

/** A leaf layer; the same object at each of its calls. */
export interface GraphLayer {
  readonly name: string;
  readonly className: string;
  /** The object within the topology itself, so that a rewriter of a copy can change it. */
  readonly config: Json;
  /** How often the model calls it. */
  readonly calls: number;
  /** False where another layer or nested model has its name, so that parameters cannot be told apart by it. */
  readonly hasOwnName: boolean;
}

/** One call of a layer. Tensors are numbered 0 .. numTensors - 1. */
export interface GraphNode {
  readonly layer: GraphLayer;
  readonly inputs: readonly number[];
  readonly output: number;
}

export interface ModelGraph {
  readonly nodes: readonly GraphNode[];
  readonly numTensors: number;
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  /** Shape of each tensor without the batch, from the description; null where it does not tell. */
  readonly shapes: readonly (readonly (number | null)[] | null)[];
  /** Every config that declares an input shape, with the tensor it speaks of. */
  readonly declared: readonly { readonly config: Json; readonly tensor: number }[];
}

/** Throws MODEL for a topology that is none, or lacks an input shape. */
export function graphOf(description: Pick<ModelDescription, 'topology' | 'layers'>): ModelGraph {
  return new Reader(description).read(description.topology);
}

type Shape = readonly (number | null)[] | null;

class Reader {
  readonly #nodes: GraphNode[] = [];
  readonly #shapes: Shape[] = [];
  readonly #declared: { config: Json; tensor: number }[] = [];
  readonly #layers = new Map<Json, { -readonly [K in keyof GraphLayer]: GraphLayer[K] }>();
  readonly #known: ReadonlyMap<string, Shape>;

  constructor({ layers }: Pick<ModelDescription, 'layers'>) {
    this.#known = new Map(layers.map(({ name, outputShape }) => [name, outputShape.slice(1)]));
  }

  read(topology: unknown): ModelGraph {
    const model = recordOf(topology, 'the topology');
    const inputs: number[] = [];
    const outputs = this.#container(model, null, inputs);
    const layers = [...this.#layers.values()];
    const names = namesIn(model);
    for (const layer of layers) layer.hasOwnName = names.filter((name) => name === layer.name).length === 1;
    for (const { layer, output } of this.#nodes) if (layer.calls > 1) this.#shapes[output] = null;
    return {
      nodes: this.#nodes,
      numTensors: this.#shapes.length,
      inputs,
      outputs,
      shapes: this.#shapes,
      declared: this.#declared,
    };
  }

  /** Calls a model on `given` tensors, or, null, on its own inputs, which are added to `inputs`; answers its outputs. */
  #container(model: Json, given: readonly number[] | null, inputs: number[]): number[] {
    const className = String(model['class_name']);
    return className === 'Sequential' ? this.#chain(model, given, inputs) : this.#network(model, given, inputs);
  }

  #chain(model: Json, given: readonly number[] | null, inputs: number[]): number[] {
    let current = given === null ? null : [...given];
    for (const layer of layersIn(model)) {
      if (current === null) {
        const nested = layerLists(layer);
        if (nested !== null) {
          current = this.#container(layer, null, inputs);
          continue;
        }
        const input = this.#input(configOf(layer));
        inputs.push(input);
        current = [input];
      }
      current = this.#call(layer, current, inputs);
    }
    return current ?? [];
  }

  #network(model: Json, given: readonly number[] | null, inputs: number[]): number[] {
    const config = configOf(model);
    const tensors = new Map<string, number[]>();
    const inputRefs = referencesIn(config['input_layers']);
    const layers = layersIn(model);
    for (const [index, { layer: name }] of inputRefs.entries()) {
      const layer = layers.find((each) => nameOf(each) === name);
      if (layer === undefined) throw malformed(`input layer ${name} is missing`);
      const tensor = given?.[index] ?? this.#input(configOf(layer));
      if (given === null) inputs.push(tensor);
      else this.#declared.push({ config: configOf(layer), tensor });
      tensors.set(`${name} 0`, [tensor]);
    }
    // Layers may be listed before those they take from, and a layer may be called on its own output.
    const calls = layers.flatMap((layer) =>
      (Array.isArray(layer['inbound_nodes']) ? (layer['inbound_nodes'] as unknown[]) : []).map((node, k) => ({
        layer,
        // A nested model has one node from when it was built, which is not written down.
        key: `${nameOf(layer)} ${k + (layerLists(layer) === null ? 0 : 1)}`,
        from: referencesIn(node),
      })),
    );
    let waiting = calls;
    while (waiting.length > 0) {
      const later: typeof calls = [];
      for (const call of waiting) {
        const taken = call.from.map(({ layer, node, tensor }) => tensors.get(`${layer} ${node}`)?.[tensor]);
        if (taken.every((tensor) => tensor !== undefined)) tensors.set(call.key, this.#call(call.layer, taken, inputs));
        else later.push(call);
      }
      if (later.length === waiting.length) throw malformed(`layer ${nameOf(later[0]!.layer)} takes what nothing gives`);
      waiting = later;
    }
    return referencesIn(config['output_layers']).map(({ layer, node, tensor }) => {
      const output = tensors.get(`${layer} ${node}`)?.[tensor];
      if (output === undefined) throw malformed(`output layer ${layer} is missing`);
      return output;
    });
  }

  #call(json: Json, inputs: readonly number[], modelInputs: number[]): number[] {
    if (layerLists(json) !== null) return this.#container(json, inputs, modelInputs);
    const config = configOf(json);
    if (Array.isArray(config['batch_input_shape']) && inputs.length === 1)
      this.#declared.push({ config, tensor: inputs[0]! });
    if (json['class_name'] === 'InputLayer') return [...inputs];
    let layer = this.#layers.get(config);
    if (layer === undefined) {
      layer = { name: nameOf(json), className: String(json['class_name']), config, calls: 0, hasOwnName: true };
      this.#layers.set(config, layer);
    }
    layer.calls++;
    const output = this.#shapes.length;
    this.#shapes.push(this.#known.get(layer.name) ?? null);
    this.#nodes.push({ layer, inputs, output });
    return [output];
  }

  #input(config: Json): number {
    const shape = config['batch_input_shape'];
    if (!Array.isArray(shape)) throw malformed(`layer ${String(config['name'])} has no input shape`);
    this.#shapes.push((shape as unknown[]).slice(1).map((size) => (typeof size === 'number' ? size : null)));
    return this.#shapes.length - 1;
  }
}

/** Names of all containers but the outermost, and of all layers. */
function namesIn(model: Json): string[] {
  return layersIn(model).flatMap((layer) => [nameOf(layer), ...(layerLists(layer) === null ? [] : namesIn(layer))]);
}

/** The layers of a nested model, or null for a layer. Recurrent cells and wrappers have no list under `layers`. */
function layerLists(layer: Json): readonly Json[] | null {
  const config = layer['config'];
  // Older Sequentials are written as a bare list.
  const layers = Array.isArray(config) ? config : (config as Json | null | undefined)?.['layers'];
  return Array.isArray(layers) ? layers.map((each) => recordOf(each, 'a layer')) : null;
}

function layersIn(model: Json): readonly Json[] {
  const layers = layerLists(model);
  if (layers === null) throw malformed('a model has no layers');
  return layers;
}

function configOf(layer: Json): Json {
  return recordOf(layer['config'], `the config of ${String(layer['class_name'])}`);
}

function nameOf(layer: Json): string {
  const config = layer['config'] as Json | undefined;
  return String(config?.['name'] ?? layer['name']);
}

interface Reference {
  readonly layer: string;
  readonly node: number;
  readonly tensor: number;
}

/** `[[name, node, tensor], ...]`, or `[name, node, tensor]` alone. */
function referencesIn(value: unknown): Reference[] {
  if (!Array.isArray(value)) throw malformed('a layer has no list of inputs');
  const list = (typeof value[0] === 'string' ? [value] : value) as unknown[][];
  return list.map(([layer, node, tensor]) => ({
    layer: String(layer),
    node: Number(node ?? 0),
    tensor: Number(tensor ?? 0),
  }));
}

function recordOf(value: unknown, what: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw malformed(`${what} is no object`);
}

function malformed(why: string): WhittleError {
  return new WhittleError('MODEL', `the model's topology cannot be read: ${why}`);
}
