import type { SparsityRule } from '../config/types.ts';
import type { ModelDescription } from '../layout/model-description.ts';
import { matchesGlob } from '../sparsity/glob.ts';
import { graphOf, type GraphNode, type ModelGraph } from './graph.ts';
import { ruleOf } from './layer-rule.ts';

/**
 * Moving averages of what each unit of a layer gives out, for the criterion `activation`: non-trainable state of the
 * run, one value a unit, named after the layer whose kernel makes the units.
 */
const MEAN = '/activation_mean';
const ZEROS = '/activation_zeros';

/** Names of a layer's mean of |output| and share of outputs that are zero. */
export function activationStatistics(layer: string): { readonly mean: string; readonly zeros: string } {
  return { mean: layer + MEAN, zeros: layer + ZEROS };
}

export function isActivationStatistic({ name }: { readonly name: string }): boolean {
  return name.endsWith(MEAN) || name.endsWith(ZEROS);
}

/** The layer of a weight. */
export function layerOf(weight: string): string {
  return weight.slice(0, weight.lastIndexOf('/'));
}

export interface ObservedLayer {
  /** The layer whose kernel makes the units. */
  readonly layer: string;
  readonly units: number;
  /** The layer whose outputs are looked at: what follows it unit by unit, normalisation and activation, is passed. */
  readonly at: string;
}

/** The layers whose units some rule ranks by what they give out. Errors: MODEL, where the topology cannot be read. */
export function observedLayers(
  description: ModelDescription,
  rules: readonly Pick<SparsityRule, 'criterion' | 'match'>[],
): ObservedLayer[] {
  const asking = rules.filter(({ criterion }) => criterion === 'activation');
  if (asking.length === 0) return [];
  const names = new Set(
    description.parameters
      .filter(
        ({ name, prunable }) => prunable && asking.some(({ match }) => match === null || matchesGlob(match, name)),
      )
      .map(({ name }) => name),
  );
  const shapes = new Map(description.parameters.map(({ name, shape }) => [name, shape]));
  const graph = graphOf(description);
  return graph.nodes.flatMap((node): ObservedLayer[] => {
    const rule = ruleOf(node, graph, description);
    const made =
      rule.kind === 'weighted'
        ? { kernel: rule.kernel, axis: rule.outputAxis }
        : rule.kind === 'separable'
          ? { kernel: rule.pointwise, axis: rule.axis + 1 }
          : null;
    if (made === null || !names.has(made.kernel)) return [];
    const units = shapes.get(made.kernel)?.[made.axis] ?? 0;
    const last = lastOf(node, graph, description);
    // Outputs of the model are never removed.
    if (graph.outputs.includes(last.output)) return [];
    return [{ layer: layerOf(made.kernel), units, at: last.layer.name }];
  });
}

/** The end of the chain of layers that follow a node unit by unit. */
function lastOf(node: GraphNode, graph: ModelGraph, description: ModelDescription): GraphNode {
  const readers = graph.nodes.filter(({ inputs }) => inputs.includes(node.output));
  const [reader] = readers;
  if (!reader || readers.length > 1 || graph.outputs.includes(node.output) || reader.layer.calls > 1) return node;
  const { kind } = ruleOf(reader, graph, description);
  const isUnitwise = kind === 'normalization' || kind === 'activation' || kind === 'prelu';
  return isUnitwise ? lastOf(reader, graph, description) : node;
}
