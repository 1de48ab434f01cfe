import { Shard } from '../../server/parameter-server/shard.ts';
import { CheckpointCommitter } from '../../server/scheduler/checkpoint-committer.ts';
import { EmbeddedCoordinator } from '../../shared/coordination/embedded.ts';
import { actionsOf, settle } from './explorer-actions.ts';
import { CONFIG } from './explorer-job.ts';
import { Miss } from './explorer-memo.ts';
import { Model, type Rules, Violation } from './explorer-model.ts';
import { copyState, initialState, keyOf, type State } from './explorer-state.ts';

export interface Exploration {
  /** Distinct states of the cluster, transitions between them, and states in which the run is over. */
  readonly states: number;
  readonly transitions: number;
  readonly ends: number;
  /** Distinct states of the product's own machines that were reached. */
  readonly machines: Model['sizes'];
  /** The first violation, with what led to it; null: every execution kept every invariant. */
  readonly violation: { readonly message: string; readonly trace: readonly string[] } | null;
}

export const PRODUCT_RULES: Rules = {
  Shard,
  Committer: CheckpointCommitter,
  Coordinator: EmbeddedCoordinator,
  checkGenerations: true,
  passRecordOn: true,
  retained: 2,
  config: CONFIG,
};

interface Visit {
  readonly state: State;
  /** Index of the visit that it came from, and what happened. */
  readonly parent: number;
  readonly label: string;
}

/**
 * Every execution of a small run of 2 servers and 2 workers with at most so many kills, at every point between two
 * events: steps, sums over all servers, the mask commit, checkpoints, rollbacks and takeovers. Depth first over states; a state seen
 * before is not followed again.
 */
export async function explore(kills: number, rules: Rules = PRODUCT_RULES): Promise<Exploration> {
  const model = new Model(rules);
  const first = await known(() => initialState(kills, model.emptyJournal()));
  const seen = new Set([keyOf(first)]);
  const trail: { parent: number; label: string }[] = [];
  const stack: Visit[] = [{ state: first, parent: -1, label: 'start' }];
  let transitions = 0;
  let ends = 0;
  const result = (violation: Exploration['violation']): Exploration => ({
    states: seen.size,
    transitions,
    ends,
    machines: model.sizes,
    violation,
  });
  for (let visit = stack.pop(); visit; visit = stack.pop()) {
    const { state } = visit;
    const index = trail.push({ parent: visit.parent, label: visit.label }) - 1;
    if (state.finished) {
      ends += 1;
      continue;
    }
    const actions = actionsOf(model, state);
    if (!actions.some(({ isProgress }) => isProgress))
      return result({ message: 'standstill', trace: traceTo(trail, index) });
    for (const { label, run } of actions) {
      let next: State;
      try {
        next = await known(() => {
          const copy = copyState(state);
          run(copy);
          settle(model, copy, rules.checkGenerations);
          return copy;
        });
      } catch (reason) {
        if (!(reason instanceof Violation)) throw reason;
        return result({ message: reason.message, trace: [...traceTo(trail, index), label] });
      }
      transitions += 1;
      const key = keyOf(next);
      if (seen.has(key)) continue;
      seen.add(key);
      stack.push({ state: next, parent: index, label });
    }
  }
  return result(null);
}

/** Does it again after each result that had to be found out first. */
async function known<T>(run: () => T): Promise<T> {
  for (;;) {
    try {
      return run();
    } catch (reason) {
      if (!(reason instanceof Miss)) throw reason;
      await reason.ready;
    }
  }
}

function traceTo(trail: readonly { parent: number; label: string }[], index: number): string[] {
  const trace: string[] = [];
  for (let at = index; at > 0; at = trail[at]!.parent) trace.unshift(trail[at]!.label);
  return trace;
}
