/** The initial values of a run that starts from a trained model: by name, all or none. */
import { basename } from 'node:path';
import { bytesOf, sizeOfShape } from '../../shared/checkpoint/safetensors.ts';
import { diffTopologies } from '../../shared/checkpoint/topology-diff.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import { isOwnState } from '../../shared/layout/own-states.ts';
import type { Tf } from '../backend/tf.ts';
import type { ModelVariables } from './describe-model.ts';
import { readTrainedTensors } from './trained-model.ts';
import type { TrainedTensor } from './trained-model.ts';

export interface InitialValues {
  /** Dense, all parameters end to end in model order. */
  readonly weights: Float32Array;
  readonly state: Float32Array;
  /** What the user should know: where the source's model computes otherwise. */
  readonly notes: readonly string[];
}

type Specs = Pick<ModelDescription, 'parameters' | 'states' | 'topology'>;
type Tensors = ReadonlyMap<string, TrainedTensor>;

const MAX_LINES = 20;

/**
 * @param path of a checkpoint, model.json or safetensors
 * @throws CHECKPOINT with one line a tensor that is missing, too much or of another shape
 */
export async function readInitialValues(
  tf: Tf,
  path: string,
  model: Specs,
  variables: ModelVariables,
): Promise<InitialValues> {
  const { tensors, topology, manifest } = await readTrainedTensors(tf, path);
  const frozen = frozenTensors(variables);
  const differences = [...diffTensors(tensors, model, frozen), ...diffFrozen(tensors, frozen)];
  if (differences.length > 0) {
    throw new WhittleError(
      'CHECKPOINT',
      `${path} does not fit the model:\n  ${abridged(differences).join('\n  ')}\nName another source, or change the model: names and shapes must be the same.`,
      { data: { source: path, differences } },
    );
  }
  const notes: string[] = [];
  const changes = diffTopologies(topology, model.topology);
  if (changes.length > 0) {
    notes.push(`the model computes otherwise than that of ${path}:\n  ${abridged(changes).join('\n  ')}`);
  }
  if (manifest !== null && frozen.size > 0) {
    notes.push(
      `${[...frozen.keys()].join(', ')}: frozen weights are in no checkpoint, so they come from the model module and the ` +
        `seed as in every run; ${basename(path)} was trained with model ${manifest.config.model} and seed ${manifest.config.seed}`,
    );
  }
  return { weights: concat(model.parameters, tensors), state: concat(model.states, tensors), notes };
}

/** Weights that no run trains or sends: every process builds them. */
function frozenTensors({ names, parameters, states }: ModelVariables): Map<string, TrainedTensor> {
  const moved = new Set([...parameters, ...states]);
  const frozen = new Map<string, TrainedTensor>();
  for (const [variable, name] of names.variables) {
    if (moved.has(variable)) continue;
    const tensor = variable.read();
    frozen.set(name, { shape: tensor.shape, values: Float32Array.from(tensor.dataSync()) });
  }
  return frozen;
}

/** One line a tensor by which a source and a model differ. */
function diffTensors(source: Tensors, { parameters, states }: Specs, frozen: Tensors): string[] {
  const lines: string[] = [];
  const known = new Set<string>(frozen.keys());
  for (const [kind, specs] of [
    ['parameter', parameters],
    ['state', states],
  ] as const) {
    for (const { name, shape } of specs) {
      known.add(name);
      const tensor = source.get(name);
      // What was never observed stays 0.
      if (tensor === undefined && isOwnState({ name })) continue;
      if (tensor === undefined) lines.push(`missing: ${kind} ${name} ${show(shape)}`);
      else if (show(tensor.shape) !== show(shape))
        lines.push(`shape differs: ${kind} ${name} is ${show(tensor.shape)} there, ${show(shape)} in the model`);
    }
  }
  for (const [name, { shape }] of source)
    if (!known.has(name) && !isOwnState({ name })) lines.push(`not in the model: ${name} ${show(shape)}`);
  return lines;
}

function diffFrozen(source: Tensors, frozen: Tensors): string[] {
  return [...frozen].flatMap(([name, { values }]) => {
    const tensor = source.get(name);
    const isSame = tensor === undefined || Buffer.compare(bytesOf(tensor.values), bytesOf(values)) === 0;
    return isSame
      ? []
      : [
          `frozen: ${name} has other values than the model module gives it, and no run sends frozen weights; let the module load them`,
        ];
  });
}

function concat(specs: ModelDescription['states'], tensors: Tensors): Float32Array {
  const parts = specs.map(({ name, shape }) => tensors.get(name)?.values ?? new Float32Array(sizeOfShape(shape)));
  const all = new Float32Array(parts.reduce((size, { length }) => size + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function abridged(lines: readonly string[]): string[] {
  return lines.length <= MAX_LINES
    ? [...lines]
    : [...lines.slice(0, MAX_LINES), `... and ${lines.length - MAX_LINES} more`];
}

function show(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}
