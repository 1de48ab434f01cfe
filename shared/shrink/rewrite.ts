import type { ModelDescription } from '../layout/model-description.ts';
import { FIXED, type Couplings } from '../model-graph/couplings.ts';
import { graphOf, type Json } from '../model-graph/graph.ts';
import { ruleOf } from '../model-graph/layer-rule.ts';

/** Positions of an axis that stay; null where all do. */
export type Kept = readonly number[] | null;

/** Positions of one axis with these labels whose units are not in `removed`. */
export function keptPositions(labels: Int32Array, { unions }: Couplings, removed: ReadonlySet<number>): Kept {
  const kept: number[] = [];
  for (const [position, label] of labels.entries())
    if (label === FIXED || !removed.has(unions.find(label))) kept.push(position);
  return kept.length === labels.length ? null : kept;
}

/** The description of the model without these units: shapes, topology and output shapes; nothing else changes. */
export function rewriteDescription(
  description: ModelDescription,
  couplings: Couplings,
  removed: ReadonlySet<number>,
): ModelDescription {
  const shapes = new Map<string, number[]>();
  for (const { name, shape } of [...description.parameters, ...description.states]) shapes.set(name, [...shape]);
  for (const { parameter, axis, labels } of couplings.axes) {
    const kept = keptPositions(labels, couplings, removed);
    if (kept !== null) shapes.get(parameter)![axis] = kept.length;
  }
  const widths = couplings.tensors.map((labels) =>
    labels === null ? null : (keptPositions(labels, couplings, removed)?.length ?? null),
  );
  const outputs = new Map<string, number>();
  for (const { layer, output } of couplings.graph.nodes) {
    const width = widths[output] ?? null;
    if (width !== null && !outputs.has(layer.name)) outputs.set(layer.name, width);
  }
  const { parameters, states, shrunkFrom = { parameters, states } } = description;
  return {
    ...description,
    shrunkFrom,
    parameters: parameters.map((each) => ({ ...each, shape: shapes.get(each.name)! })),
    states: states.map((each) => ({ ...each, shape: shapes.get(each.name)! })),
    layers: description.layers.map((layer) => {
      const width = outputs.get(layer.name);
      return width === undefined ? layer : { ...layer, outputShape: [...layer.outputShape.slice(0, -1), width] };
    }),
    topology: rewriteTopology(description, widths, shapes),
  };
}

/** @param widths new number of channels of each tensor, null where it stays */
function rewriteTopology(
  description: ModelDescription,
  widths: readonly (number | null)[],
  shapes: ReadonlyMap<string, readonly number[]>,
): unknown {
  const topology: unknown = structuredClone(description.topology);
  const graph = graphOf({ ...description, topology });
  for (const { config, tensor } of graph.declared) {
    const width = widths[tensor] ?? null;
    const shape = config['batch_input_shape'];
    if (width !== null && Array.isArray(shape))
      config['batch_input_shape'] = [...(shape as unknown[]).slice(0, -1), width];
  }
  for (const node of graph.nodes) {
    const { config } = node.layer;
    const rule = ruleOf(node, graph, description);
    if (rule.kind === 'weighted') resize(config, rule.sizeKey, shapes.get(rule.kernel)![rule.outputAxis]!);
    if (rule.kind === 'separable') resize(config, 'filters', shapes.get(rule.pointwise)![rule.axis + 1]!);
    const width = widths[node.output] ?? null;
    const target = config['target_shape'];
    if (rule.kind === 'reshape' && width !== null && Array.isArray(target) && target.at(-1) !== -1)
      config['target_shape'] = [...(target as unknown[]).slice(0, -1), width];
  }
  return topology;
}

function resize(config: Json, key: string, size: number): void {
  config[key] = size;
  // It takes square kernels only, and every weight is given when the model is built again.
  const initializer = config['kernel_initializer'] as { class_name?: unknown } | undefined;
  if (initializer?.class_name === 'Identity') config['kernel_initializer'] = { class_name: 'Zeros', config: {} };
}
