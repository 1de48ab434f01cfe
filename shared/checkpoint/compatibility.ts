import { WhittleError } from '../errors.ts';
import type { ModelDescription } from '../layout/model-description.ts';

/**
 * How the tensors of two models differ, one line each: missing, added, changed in shape or place. Empty: a
 * checkpoint of one fits the other. Layers without weights, notes and data sizes do not count.
 */
export function diffModels(old: ModelDescription, now: ModelDescription): string[] {
  return [...diffTensors('parameter', old.parameters, now.parameters), ...diffTensors('state', old.states, now.states)];
}

/** Throws WhittleError CHECKPOINT with the whole diff unless a checkpoint of `old` fits `now`. */
export function requireSameModel(old: ModelDescription, now: ModelDescription, checkpoint: string): void {
  const differences = diffModels(old, now);
  if (differences.length === 0) return;
  const shown = differences.slice(0, 20);
  if (shown.length < differences.length) shown.push(`... and ${differences.length - shown.length} more`);
  throw new WhittleError(
    'CHECKPOINT',
    `${checkpoint} was written by another model:\n  ${shown.join('\n  ')}\nUse the model it was written with, or launch a new run.`,
    { data: { checkpoint, differences } },
  );
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

function show(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}
