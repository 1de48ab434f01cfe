/**
 * The model's topology as TensorFlow.js writes it, under the canonical names: equal in every process, and a
 * model rebuilt from it has variables whose original names are Whittle's parameter names.
 */
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { automaticKind, withoutCount } from './names.ts';
import type { ModelNames } from './names.ts';

/** The `modelTopology` of model.json. */
export function topologyOf(model: LayersModel, names: ModelNames): unknown {
  const renamed = new Map<string, string>();
  for (const [layer, name] of names.layers) {
    // Names the user gave stay: two nested models may each have an `fc`.
    if (automaticKind(layer) !== null) renamed.set(layer.name, name);
    const direction = layer.forwardLayer && names.layers.get(layer.forwardLayer);
    // Bidirectional writes the layer it was given, and puts `forward_` before its name when rebuilt.
    if (layer.layer && direction !== undefined) renamed.set(layer.layer.name, direction.replace(/^forward_/, ''));
  }
  const topology: unknown = JSON.parse(JSON.stringify(model.toJSON(null, false)));
  const multipliers = new Map<string, number>();
  for (const [{ name, depthMultiplier }] of names.layers)
    if (depthMultiplier !== undefined) multipliers.set(name, depthMultiplier);
  addMultipliers(topology, multipliers);
  return rename(topology, renamed);
}

/** TensorFlow.js leaves the depth multiplier of a SeparableConv2D out, and would build it again with 1. */
function addMultipliers(value: unknown, multipliers: ReadonlyMap<string, number>): void {
  if (typeof value !== 'object' || value === null) return;
  const { class_name: className, config } = value as { class_name?: unknown; config?: Record<string, unknown> };
  const multiplier = className === 'SeparableConv2D' ? multipliers.get(String(config?.['name'])) : undefined;
  if (config !== undefined && multiplier !== undefined) config['depth_multiplier'] = multiplier;
  for (const each of Object.values(value)) addMultipliers(each, multipliers);
}

function rename(value: unknown, names: ReadonlyMap<string, string>): unknown {
  if (Array.isArray(value))
    return isReference(value) ? rewrite(value, names) : value.map((each) => rename(each, names));
  if (typeof value !== 'object' || value === null) return value;
  const record: Record<string, unknown> = {};
  for (const [key, each] of Object.entries(value)) {
    record[key] =
      key === 'name' && typeof each === 'string' ? (names.get(each) ?? withoutCount(each)) : rename(each, names);
  }
  return record;
}

/** A layer reference is `[name, node, tensor]` or `[name, node, tensor, kwargs]`. */
function isReference(value: readonly unknown[]): boolean {
  return typeof value[0] === 'string' && typeof value[1] === 'number' && typeof value[2] === 'number';
}

function rewrite([name, ...rest]: readonly unknown[], names: ReadonlyMap<string, string>): unknown[] {
  return [names.get(name as string) ?? name, ...rest];
}
