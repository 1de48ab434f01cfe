import type { Parameter } from '../../layout/parameter-space.ts';
import { bitmapBytes, setBit } from '../bitmap.ts';
import { rangesOf } from '../rules.ts';
import type { Selection } from '../selection.ts';
import { type Candidates, candidatesOf } from './candidates.ts';
import { gatherScores } from './gather.ts';
import { flagLowest } from './lowest.ts';
import { append, comesBack, type Decision, everywhere, type RuleState, sum } from './rule-state.ts';

/**
 * A rule whose ranking needs a whole parameter at once: criteria relative to their parameter, blocks, n:m groups.
 * One place brings the scores together, so that sums have one order whatever the shards, and sends out bitmaps.
 */
export async function planGathered(state: RuleState): Promise<Decision> {
  const { rule, sources, cuts, parameters, groups, scoring, prior } = state;
  const revived = everywhere(
    sources.length,
    comesBack(state) && parameters.length > 0 ? [{ action: 'revive', ranges: rangesOf(parameters) }] : [],
  );
  const after = append(prior, revived);
  const killed = new Kills(cuts);
  let removed = 0;
  let newlyRemoved = 0;
  let protectedCount = 0;
  let pastTarget = false;
  for (const group of groups) {
    const members: { parameter: Parameter; candidates: Candidates }[] = [];
    for (const parameter of group.parameters) {
      const gathered = await gatherScores(sources, cuts, scoring, parameter, after);
      members.push({ parameter, candidates: candidatesOf(rule, parameter, gathered) });
    }
    const dead = sum(members.map(({ candidates }) => candidates.dead));
    const { flags, spared } = choose(
      members.map(({ candidates }) => candidates),
      group.removed - dead,
    );
    members.forEach(({ parameter, candidates }, k) => {
      const chosen = flags[k] as Uint8Array;
      for (let i = 0; i < chosen.length; i++) {
        if (chosen[i] === 0) continue;
        newlyRemoved++;
        candidates.elements(i, (element) => killed.add(parameter.offset + element));
      }
      removed += sum([...chosen]);
    });
    removed += dead;
    protectedCount += spared;
    pastTarget ||= dead > group.removed;
  }
  return {
    selections: append(revived, killed.selections()),
    removed,
    newlyRemoved,
    grown: 0,
    protectedCount,
    pastTarget,
  };
}

/** Flags of the `count` lowest candidates of all lists together; lists keep their minimum, which wins over the count. */
export function choose(
  lists: readonly Candidates[],
  count: number,
): { readonly flags: Uint8Array[]; readonly spared: number } {
  const all = new Float32Array(sum(lists.map(({ scores }) => scores.length)));
  let at = 0;
  for (const { scores } of lists) {
    all.set(scores, at);
    at += scores.length;
  }
  const flagged = flagLowest(all, count);
  let spared = 0;
  at = 0;
  const flags = lists.map(({ scores, minimum }) => {
    const own = flagged.slice(at, at + scores.length);
    at += scores.length;
    const taken = sum([...own]);
    const most = Math.max(0, scores.length - minimum);
    if (taken <= most) return own;
    spared += taken - most;
    return flagLowest(scores, most);
  });
  return { flags, spared };
}

/** Elements that die, as a bitmap for each source that holds some of them. */
export class Kills {
  readonly #cuts: readonly number[];
  readonly #bits: Uint8Array[];
  readonly #used: boolean[];

  constructor(cuts: readonly number[]) {
    this.#cuts = cuts;
    this.#bits = cuts.slice(1).map((end, i) => new Uint8Array(bitmapBytes(end - (cuts[i] ?? 0))));
    this.#used = this.#bits.map(() => false);
  }

  /** @param index flat */
  add(index: number): void {
    // Few cuts: servers, not elements.
    const source = this.#cuts.findIndex((cut, i) => i > 0 && index < cut) - 1;
    setBit(this.#bits[source] as Uint8Array, index - (this.#cuts[source] ?? 0));
    this.#used[source] = true;
  }

  selections(): Selection[][] {
    return this.#bits.map((bits, source) =>
      this.#used[source]
        ? [{ action: 'kill', start: this.#cuts[source] ?? 0, bits: Buffer.from(bits).toString('base64') }]
        : [],
    );
  }
}
