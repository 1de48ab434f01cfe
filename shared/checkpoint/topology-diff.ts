/**
 * What differs between two models that hold the same tensors: an activation, a dropout rate, the wiring. Reads
 * topologies as TensorFlow.js writes them, under canonical names (worker/model/topology.ts), as JSON values.
 */

type Json = Readonly<Record<string, unknown>>;

interface Layer {
  /** Names of the containers and of the layer, `encoder/dense_1`; empty for the model itself, whose name says nothing. */
  readonly path: string;
  readonly className: string;
  /** Without the layers of a container. */
  readonly config: Json;
  readonly inbound: unknown;
}

/** What shrinking changes in a layer's configuration. */
const SIZES = ['units', 'filters', 'batch_input_shape', 'target_shape'];

/**
 * One line a difference, naming the layer and the property; empty where both compute the same.
 * @param options `ignoresSizes`: the old model has lost units, so that layers differ in how many they have
 */
export function diffTopologies(
  old: unknown,
  now: unknown,
  { ignoresSizes = false }: { readonly ignoresSizes?: boolean } = {},
): string[] {
  const skips = ignoresSizes ? SIZES : [];
  const before = layersOf(old, null);
  const after = new Map(layersOf(now, null).map((layer) => [layer.path, layer]));
  if (before.length === 0 || after.size === 0) return [];
  const lines: string[] = [];
  for (const was of before) {
    const is = after.get(was.path);
    if (is === undefined) lines.push(`${label(was)} (${was.className}) is gone`);
    else lines.push(...diffLayers(was, is, skips));
  }
  const known = new Set(before.map(({ path }) => path));
  for (const is of after.values()) if (!known.has(is.path)) lines.push(`${label(is)} (${is.className}) is new`);
  // In a Sequential the order is the wiring.
  if (lines.length === 0) {
    const order = [...after.keys()];
    const moved = before.findIndex(({ path }, index) => order[index] !== path);
    if (moved >= 0) lines.push(`layer ${order[moved] ?? ''} stands where layer ${before[moved]?.path ?? ''} stood`);
  }
  return lines;
}

/** The model itself first, then its layers, nested models entered. `parent` null: the model itself. */
function layersOf(value: unknown, parent: string | null): Layer[] {
  const record = asRecord(value);
  const whole = asRecord(record?.['config']);
  if (record === null || whole === null) return [];
  const { layers, ...config } = whole;
  const own = String(config['name'] ?? record['name']);
  const path = parent === null ? '' : parent === '' ? own : `${parent}/${own}`;
  return [
    { path, className: String(record['class_name']), config, inbound: record['inbound_nodes'] ?? null },
    ...(Array.isArray(layers) ? layers.flatMap((each) => layersOf(each, path)) : []),
  ];
}

function label({ path }: Layer): string {
  return path === '' ? 'the model' : `layer ${path}`;
}

function diffLayers(was: Layer, is: Layer, skips: readonly string[]): string[] {
  if (was.className !== is.className) return [`${label(was)} was a ${was.className}, is a ${is.className}`];
  // Weights come from the checkpoint, unless they are frozen: those are built again.
  const skipsInitializers = was.config['trainable'] !== false && is.config['trainable'] !== false;
  const lines = diffValues('', was.config, is.config, skipsInitializers)
    .filter(([property]) => !skips.includes(property))
    .map(([property, before, after]) => `${label(was)}: ${property} was ${show(before)}, is ${show(after)}`);
  if (JSON.stringify(was.inbound) !== JSON.stringify(is.inbound)) lines.push(`${label(was)} takes other inputs`);
  return lines;
}

type Difference = readonly [property: string, before: unknown, after: unknown];

function diffValues(path: string, old: Json, now: Json, skipsInitializers: boolean): Difference[] {
  const keys = [...new Set([...Object.keys(old), ...Object.keys(now)])];
  return keys.flatMap((key): Difference[] => {
    if (key === 'name' || (skipsInitializers && key.endsWith('_initializer'))) return [];
    const [before, after] = [old[key] ?? null, now[key] ?? null];
    if (JSON.stringify(before) === JSON.stringify(after)) return [];
    const [inner, other] = [asRecord(before), asRecord(after)];
    // `config` only wraps: `layer.activation` is what a user wrote.
    const property = key === 'config' ? path : path === '' ? key : `${path}.${key}`;
    return inner !== null && other !== null
      ? diffValues(property, inner, other, skipsInitializers)
      : [[property, before, after]];
  });
}

function asRecord(value: unknown): Json | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : null;
}

function show(value: unknown): string {
  if (value === null) return 'not set';
  const text = JSON.stringify(value);
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}
