import type { Parameter } from '../../layout/parameter-space.ts';
import { setPositions } from '../bitmap.ts';
import { MAX_SCORES, type Scoring, type SelectionSource } from '../selection.ts';
import type { Selections } from './rule-state.ts';

/** The scores of one parameter's survivors, wherever its elements lie. */
export interface GatheredScores {
  /** 1 for each survivor; [parameter.size]. */
  readonly alive: Uint8Array;
  /** 0 where dead; [parameter.size]. */
  readonly scores: Float32Array;
  readonly survivors: number;
}

/** Brings one parameter's scores together: 4 bytes a survivor, held for the length of one decision. */
export async function gatherScores(
  sources: readonly SelectionSource[],
  cuts: readonly number[],
  scoring: Scoring,
  parameter: Parameter,
  prior: Selections,
): Promise<GatheredScores> {
  const { offset, size } = parameter;
  const alive = new Uint8Array(size);
  const scores = new Float32Array(size);
  let survivors = 0;
  for (const [i, source] of sources.entries()) {
    const from = Math.max(offset, cuts[i] ?? 0);
    const to = Math.min(offset + size, cuts[i + 1] ?? 0);
    for (let start = from; start < to; start += MAX_SCORES) {
      const range = [start, Math.min(start + MAX_SCORES, to)] as const;
      const answer = await source.scores({ scoring, range, prior: prior[i] ?? [] });
      const positions = setPositions(answer.alive);
      for (let k = 0; k < positions.length; k++) {
        const at = start - offset + (positions[k] as number);
        alive[at] = 1;
        scores[at] = answer.scores[k] as number;
      }
      survivors += positions.length;
    }
  }
  return { alive, scores, survivors };
}

/** Scores of the survivors alone, in flat order. */
export function packedScores({ alive, scores, survivors }: GatheredScores): Float32Array {
  const packed = new Float32Array(survivors);
  let at = 0;
  for (let i = 0; i < alive.length; i++) if (alive[i] === 1) packed[at++] = scores[i] as number;
  return packed;
}
