/**
 * Parameter names. TensorFlow.js counts automatic layer names per process (`dense_Dense7`), so a second build
 * of the same model gets others. Here each becomes `<kind>_<k>`, counted within the model (`dense_1`), and the
 * parameters keep their original name below it: `dense_1/kernel`. Names that the user gave stay.
 */
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers';
import { walkModel } from './layer-tree.ts';
import type { LayerView } from './layer-tree.ts';

export interface ModelNames {
  /** Canonical name of every container, leaf and wrapped direction. */
  readonly layers: ReadonlyMap<LayerView, string>;
  /** Canonical name of every variable of the model, unique. */
  readonly variables: ReadonlyMap<LayerVariable, string>;
}

export function nameModel(model: LayersModel): ModelNames {
  const views = walkModel(model);
  const layers = nameLayers(views);
  return { layers, variables: nameVariables(views, layers) };
}

function nameLayers(views: readonly LayerView[]): Map<LayerView, string> {
  const everyone = views.flatMap((view) => [view, ...directionsOf(view)]);
  const names = new Map<LayerView, string>();
  const taken = new Set<string>();
  // Names the user gave come first, so that an automatic one never takes theirs.
  for (const view of everyone) {
    if (automaticKind(view) === null) names.set(view, free(view.name, taken));
  }
  const counts = new Map<string, number>();
  for (const view of everyone) {
    const kind = automaticKind(view);
    if (kind === null) continue;
    let k = counts.get(kind) ?? 0;
    do k++;
    while (taken.has(`${kind}_${k}`));
    counts.set(kind, k);
    names.set(view, free(`${kind}_${k}`, taken));
  }
  return names;
}

function directionsOf(view: LayerView): LayerView[] {
  return [view.forwardLayer, view.backwardLayer].filter((each) => each !== undefined);
}

/** `dense` for `dense_Dense7`, `forward_lstm` for `forward_lstm_LSTM2`, null for a name the user gave. */
export function automaticKind(layer: LayerView): string | null {
  const className = layer.getClassName();
  const direction = /^(?:forward_|backward_)+/.exec(layer.name)?.[0] ?? '';
  const name = layer.name.slice(direction.length);
  const kind = snakeCase(className);
  if (isCounted(name, `${kind}_${className}`)) return direction + kind;
  if (className === 'InputLayer' && (isCounted(name, 'input') || name.endsWith('_input'))) return 'input';
  if (className === 'Sequential' && isCounted(name, 'sequential_')) return 'sequential';
  if ((className === 'Model' || className === 'Functional') && isCounted(name, className.toLowerCase())) return 'model';
  return null;
}

function isCounted(name: string, prefix: string): boolean {
  return name.startsWith(prefix) && /^\d+$/.test(name.slice(prefix.length));
}

/** TensorFlow.js's own rule for the first half of an automatic name. */
function snakeCase(className: string): string {
  return className
    .replace(/(.)([A-Z][a-z0-9]+)/g, '$1_$2')
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .toLowerCase();
}

function nameVariables(views: readonly LayerView[], layers: Map<LayerView, string>): Map<LayerVariable, string> {
  const names = new Map<LayerVariable, string>();
  const taken = new Set<string>();
  for (const owner of views.filter((view) => view.layers === undefined)) {
    const inner = new Map(directionsOf(owner).map((each) => [each.name, layers.get(each) ?? each.name]));
    for (const variable of owner.weights) {
      if (names.has(variable)) continue;
      const path = variable.originalName.split('/');
      // What stands before the owner is the scope of whatever built it first, which is not the model's structure.
      const rest = path.slice(path.lastIndexOf(owner.name) + 1).map((part) => inner.get(part) ?? withoutCount(part));
      names.set(variable, free([layers.get(owner) ?? owner.name, ...rest].join('/'), taken));
    }
  }
  return names;
}

/** The automatic name of a layer that is not counted (a wrapped one, a cell) without its process-wide count. */
export function withoutCount(part: string): string {
  const match = /^(.+)_([A-Z]\w*?)\d+$/.exec(part);
  return match?.[1] !== undefined && match[2] !== undefined && snakeCase(match[2]) === match[1] ? match[1] : part;
}

/** `wanted`, or with `_2`, `_3` ... after its first segment where that is taken. */
function free(wanted: string, taken: Set<string>): string {
  const [first = '', ...rest] = wanted.split('/');
  let name = wanted;
  for (let k = 2; taken.has(name); k++) name = [`${first}_${k}`, ...rest].join('/');
  taken.add(name);
  return name;
}
