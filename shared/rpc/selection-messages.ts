import type { Selection as SelectionMessage, Selection__Output } from '../../protos/generated/whittle/Selection.ts';
import type { Selection } from '../sparsity/selection.ts';

export function selectionToMessage(selection: Selection): SelectionMessage {
  return {
    ranges: selection.ranges.map(([start, end]) => ({ start, end })),
    threshold: selection.threshold,
    ties: selection.ties,
  };
}

export function selectionFromMessage(message: Selection__Output): Selection {
  return {
    ranges: message.ranges.map(({ start, end }) => [start, end] as const),
    threshold: message.threshold,
    ties: message.ties,
  };
}
