import type { CommitMaskRequest__Output } from '../../protos/generated/whittle/CommitMaskRequest.ts';
import type { ParameterServerHandlers } from '../../protos/generated/whittle/ParameterServer.ts';
import { WhittleError } from '../../shared/errors.ts';
import { scoringFromMessage, selectionFromMessage } from '../../shared/rpc/selection-messages.ts';
import { unaryHandler } from '../../shared/rpc/server.ts';
import type { ThreadCaller } from '../../shared/rpc/thread-calls.ts';
import { type HistogramRound, MAX_SCORES, type ScoresAnswer } from '../../shared/sparsity/selection.ts';

/** What the scheduler asks of a shard that holds for a mask update, and how it ends the hold. */
export function holdHandlers(options: {
  readonly thread: ThreadCaller;
  /** @throws STALE_GENERATION where it is not the one in force */
  readonly checkGeneration: (generation: number) => void;
  readonly onCommitted: (request: CommitMaskRequest__Output, survivors: number) => void;
}): Pick<ParameterServerHandlers, 'Histogram' | 'Scores' | 'CommitMask'> {
  const { thread, checkGeneration, onCommitted } = options;
  return {
    Histogram: unaryHandler(async (request) => {
      checkGeneration(request.generation);
      const groups = await thread.call<number[][]>('histogram', {
        scoring: scoringFromMessage(request.scoring),
        population: request.dead ? 'dead' : 'alive',
        groups: request.groups.map(({ ranges }) => ranges.map(({ start, end }) => [start, end] as const)),
        prior: request.prior.map(selectionFromMessage),
        round: request.round as HistogramRound,
        prefixes: request.prefixes,
      });
      return { groups: groups.map((counts) => ({ counts })) };
    }),

    Scores: unaryHandler(async (request) => {
      checkGeneration(request.generation);
      const { start, end } = request.range ?? { start: 0, end: 0 };
      if (end - start > MAX_SCORES) {
        throw new WhittleError(
          'PROTOCOL',
          `scores of ${end - start} elements asked for at once; ${MAX_SCORES} at most`,
        );
      }
      const { alive, scores } = await thread.call<ScoresAnswer>('scores', {
        scoring: scoringFromMessage(request.scoring),
        range: [start, end],
        prior: request.prior.map(selectionFromMessage),
      });
      return { alive, scores: new Uint8Array(scores.buffer, scores.byteOffset, scores.byteLength) };
    }),

    CommitMask: unaryHandler(async (request) => {
      checkGeneration(request.generation);
      const survivors = await thread.call<number>('commit', {
        step: request.step,
        maskEpoch: request.maskEpoch,
        selections: request.selections.map(selectionFromMessage),
      });
      onCommitted(request, survivors);
      return { survivors };
    }),
  };
}
