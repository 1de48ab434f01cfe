import type { Scoring__Output } from '../../protos/generated/whittle/Scoring.ts';
import type { Selection as SelectionMessage, Selection__Output } from '../../protos/generated/whittle/Selection.ts';
import { WhittleError } from '../errors.ts';
import type { Range, Scoring, Selection } from '../sparsity/selection.ts';

export function selectionToMessage(selection: Selection): SelectionMessage {
  switch (selection.action) {
    case 'remove':
    case 'grow': {
      const { scoring, threshold, ties } = selection;
      const action = selection.action === 'remove' ? 'REMOVE' : 'GROW';
      return { action, scoring, ranges: rangeMessages(selection.ranges), threshold, ties };
    }
    case 'revive':
      return { action: 'REVIVE', ranges: rangeMessages(selection.ranges) };
    case 'kill':
      return { action: 'KILL', start: selection.start, bits: Buffer.from(selection.bits, 'base64') };
  }
}

export function selectionFromMessage(message: Selection__Output): Selection {
  const ranges = message.ranges.map(({ start, end }) => [start, end] as const);
  switch (message.action) {
    case 'REMOVE':
    case 'GROW': {
      const action = message.action === 'REMOVE' ? 'remove' : 'grow';
      const { threshold, ties } = message;
      return { action, scoring: scoringFromMessage(message.scoring), ranges, threshold, ties };
    }
    case 'REVIVE':
      return { action: 'revive', ranges };
    case 'KILL':
      return { action: 'kill', start: message.start, bits: Buffer.from(message.bits).toString('base64') };
  }
}

/** Throws PROTOCOL where a request says not how to score. */
export function scoringFromMessage(message: Scoring__Output | null): Scoring {
  if (message === null) throw new WhittleError('PROTOCOL', 'a request to rank elements without a scoring');
  return message;
}

function rangeMessages(ranges: readonly Range[]): { start: number; end: number }[] {
  return ranges.map(([start, end]) => ({ start, end }));
}
