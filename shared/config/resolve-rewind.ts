import { toStep, numSteps } from './positions.ts';
import type { RewindConfig } from './rewind.ts';
import type { RunFileDocument } from './schema.ts';
import type { Problem } from './source.ts';

/** What is wrong with the rewinds, as far as the facts tell. */
export function checkRewind(document: RunFileDocument, facts: { readonly trainExamples?: number }): Problem[] {
  const steps = numSteps(document, facts.trainExamples);
  const taken = new Set<number>();
  return (document.rewind ?? []).flatMap((rewind, i): Problem[] => {
    const at = toStep(rewind.at, document, facts.trainExamples);
    const to = toStep(rewind.to, document, facts.trainExamples);
    const path = ['rewind', i];
    if (at === undefined || to === undefined) return [];
    if (to >= at)
      return [{ path: [...path, 'to'], message: `rewind.${i}.to ${to} must be before rewind.${i}.at ${at}; lower to` }];
    if (steps !== undefined && at >= steps)
      return [
        {
          path: [...path, 'at'],
          message: `rewind.${i}.at ${at} leaves nothing to train in a run of ${steps} steps; lower at or train longer`,
        },
      ];
    if (taken.has(at)) return [{ path: [...path, 'at'], message: `two rewinds at step ${at}; keep one of them` }];
    taken.add(at);
    return [];
  });
}

export function resolveRewind(
  document: RunFileDocument,
  trainExamples: number,
): { readonly rewind?: readonly RewindConfig[] } {
  if (!document.rewind?.length) return {};
  const step = (position: number | string): number => toStep(position, document, trainExamples) ?? 0;
  const rewind = document.rewind.map(({ at, to }) => ({ at: step(at), to: step(to) })).sort((a, b) => a.at - b.at);
  return { rewind };
}
