import { WhittleError } from '../errors.ts';
import type { ModelDescription } from '../layout/model-description.ts';
import { diffTopologies } from './topology-diff.ts';

/**
 * How the tensors of two models differ, one line each: missing, added, changed in shape or place. Empty: a
 * checkpoint of one fits the other. Layers without weights, notes and data sizes do not count. An old model that units
 * have left fits what it was before that.
 */
export function diffModels(old: ModelDescription, now: ModelDescription): string[] {
  const { parameters, states } = hasLostUnitsSince(old, now) ?? old;
  return [...diffTensors('parameter', parameters, now.parameters), ...diffTensors('state', states, now.states)];
}

/** The tensors that the old model had before units left it, where the new one is as the user's files build it. */
function hasLostUnitsSince(old: ModelDescription, now: ModelDescription): ModelDescription['shrunkFrom'] {
  return now.shrunkFrom === undefined ? old.shrunkFrom : undefined;
}

/** Throws WhittleError CHECKPOINT with the whole diff unless a checkpoint of `old` fits `now`. */
export function requireSameModel(old: ModelDescription, now: ModelDescription, checkpoint: string): void {
  const differences = diffModels(old, now);
  if (differences.length === 0) return;
  throw new WhittleError(
    'CHECKPOINT',
    `${checkpoint} was written by another model:\n  ${abridged(differences).join('\n  ')}\nUse the model it was written with, or launch a new run.`,
    { data: { checkpoint, differences } },
  );
}

/**
 * A warning where the tensors of two models are the same and what they compute is not: another activation, another
 * loss. Null where they agree, as far as a checkpoint tells.
 */
export function changedBehaviour(old: ModelDescription, now: ModelDescription, checkpoint: string): string | null {
  const ignoresSizes = hasLostUnitsSince(old, now) !== undefined;
  const changes = diffTopologies(old.topology, now.topology, { ignoresSizes });
  if (old.loss !== undefined && now.loss !== undefined && old.loss !== now.loss) {
    const isCode = [old.loss, now.loss].every((loss) => loss.startsWith(USER_LOSS));
    changes.push(
      isCode ? 'the code of the function `loss` changed' : `the loss was ${shown(old.loss)}, is ${shown(now.loss)}`,
    );
  }
  if (changes.length === 0) return null;
  return (
    `the model changed since ${checkpoint} was written, and its weights still fit, so nothing stops it:\n  ` +
    `${abridged(changes).join('\n  ')}\nUndo the change unless it is meant: these weights were trained for another model.`
  );
}

/** How a description names a loss of the user's: this and a hash of its code. */
export const USER_LOSS = 'code ';

function shown(loss: string): string {
  return loss.startsWith(USER_LOSS) ? "the module's own" : loss;
}

interface Named {
  readonly name: string;
  readonly shape: readonly number[];
}

function diffTensors(kind: string, old: readonly Named[], now: readonly Named[]): string[] {
  const before = new Map(old.map((tensor) => [tensor.name, tensor]));
  const after = new Map(now.map((tensor) => [tensor.name, tensor]));
  const lines: string[] = [];
  for (const { name, shape } of old) {
    const other = after.get(name);
    if (other === undefined) lines.push(`missing: ${kind} ${name} ${show(shape)}`);
    else if (show(other.shape) !== show(shape))
      lines.push(`shape changed: ${kind} ${name} was ${show(shape)}, is ${show(other.shape)}`);
  }
  for (const { name, shape } of now) if (!before.has(name)) lines.push(`added: ${kind} ${name} ${show(shape)}`);
  // Flat indices follow the order, so the same tensors in another order are another model.
  if (lines.length === 0) {
    const moved = old.findIndex(({ name }, index) => now[index]?.name !== name);
    if (moved >= 0)
      lines.push(`order changed: ${kind} ${moved} was ${old[moved]!.name}, is ${now[moved]?.name ?? 'none'}`);
  }
  return lines;
}

function abridged(lines: readonly string[]): string[] {
  return lines.length <= 20 ? [...lines] : [...lines.slice(0, 20), `... and ${lines.length - 20} more`];
}

function show(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}
