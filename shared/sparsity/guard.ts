import { WhittleError } from '../errors.ts';
import type { GuardConfig } from '../config/guard.ts';

/*
 * The guard closes the loop between pruning and evaluation: a state machine over the mask updates and evaluations of a
 * run, in the order of their clocks, at one clock the update first (an evaluation sees the mask of its clock).
 *
 * The reference is the best evaluation so far, before pruning or after it began, so that a model that prunes while it
 * still learns is measured against what it could do, and without an evaluation before pruning the first one counts.
 *
 * Decisions are functions of this order alone: a mask step t (see mask-steps.ts) waits for all evaluations of clocks
 * below t, however long they take; a restore, like a skipped or caught-up update, takes effect at the next mask step
 * after the evaluation that decided; and a checkpoint of clock t keeps the state that has seen the update at t and all
 * evaluations below t. So a run that resumes decides as one that was never stopped.
 */

/** Plain JSON, kept in manifests. */
export interface GuardState {
  /** Best value of the metric so far; null before the first evaluation. */
  readonly reference: number | null;
  /** Clock of the last evaluation seen; -1 before the first. */
  readonly evaluatedAt: number;
  /** Evaluations in a row out of the band. */
  readonly outside: number;
  readonly holding: boolean;
  /** Clock of the last mask update made (after a restore: of that restored); null before the first. */
  readonly lastUpdate: number | null;
  /** Clock of the last mask update whose mask an evaluation found inside the band: what `restore` goes back to. */
  readonly safeUpdate: number | null;
  /** An update was skipped, or undone, and none has caught up since. */
  readonly owed: boolean;
  /** Clock of the mask update that the next mask step puts back; null: none is to be. */
  readonly restoring: number | null;
}

/** What a guard decided, for commit records, metrics and reports. */
export interface GuardDecision {
  /** Clock of the evaluation that decided. */
  readonly step: number;
  readonly kind: 'hold' | 'resume' | 'restore';
  /** The evaluation's value of the metric. */
  readonly metric: number;
  readonly reference: number;
  /** Restore: clock of the mask update whose weights, slots and mask are put back. */
  readonly to?: number;
}

/** With its words (`sayDecision`), for whoever shows it without the run file. */
export type SaidDecision = GuardDecision & { readonly said: string };

/** A guard's state and all it decided so far, oldest first. */
export interface GuardRecord {
  readonly state: GuardState;
  readonly decisions: readonly SaidDecision[];
}

/** What became of a mask step under a guard. */
export interface GuardNote {
  /** `idle`: a step to catch up at, and nothing to catch up with. */
  readonly action: 'updated' | 'caughtUp' | 'held' | 'restored' | 'idle';
  /** Restored: clock of the mask update that was put back. */
  readonly to?: number;
  /** Decisions since the mask step before. */
  readonly decisions: readonly SaidDecision[];
}

export interface GuardEvaluation {
  readonly step: number;
  readonly accuracy: number | null;
  readonly loss: number | null;
}

/** Before the first evaluation and mask update. */
export function guardState(): GuardState {
  return {
    reference: null,
    evaluatedAt: -1,
    outside: 0,
    holding: false,
    lastUpdate: null,
    safeUpdate: null,
    owed: false,
    restoring: null,
  };
}

/**
 * Takes the next evaluation. The band: accuracy not below reference - band, loss not above reference x (1 + band);
 * what is not a number is outside.
 *
 * After `patience` evaluations outside in a row: `hold`, or with `action: restore` a `restore` that also holds, unless no
 * mask update was made since the last evaluation inside, or none is known to be good, where undoing cannot heal: then
 * `hold`. The first evaluation inside while holding: `resume`. Between a restore's decision and its effect nothing is
 * decided: what is evaluated there is about to be undone.
 * @throws RUN_FILE where the evaluation has no such metric, INTERNAL where it is not the next one
 */
export function onEvaluation(
  config: GuardConfig,
  state: GuardState,
  evaluation: GuardEvaluation,
): { readonly state: GuardState; readonly decision: GuardDecision | null } {
  const { step } = evaluation;
  if (step <= state.evaluatedAt || step < (state.lastUpdate ?? 0)) {
    throw new WhittleError('INTERNAL', `the guard got the evaluation of step ${step} out of order`);
  }
  const metric = evaluation[config.metric];
  if (metric === null) {
    throw new WhittleError(
      'RUN_FILE',
      `guard.metric is ${config.metric}, and evaluations of this model give none; use metric: ${config.metric === 'loss' ? 'accuracy' : 'loss'}`,
    );
  }
  const seen = { ...state, evaluatedAt: step };
  if (state.restoring !== null) return { state: seen, decision: null };
  const before = state.reference;
  if (before === null) {
    const first = { ...seen, reference: metric, safeUpdate: state.lastUpdate };
    return { state: Number.isNaN(metric) ? seen : first, decision: null };
  }
  if (isInside(config, metric, before)) {
    const reference = config.metric === 'accuracy' ? Math.max(metric, before) : Math.min(metric, before);
    const next = { ...seen, reference, outside: 0, holding: false, safeUpdate: state.lastUpdate };
    return { state: next, decision: state.holding ? { step, kind: 'resume', metric, reference: before } : null };
  }
  const outside = state.outside + 1;
  if (state.holding || outside < config.patience) return { state: { ...seen, outside }, decision: null };
  const held = { ...seen, outside, holding: true };
  const { safeUpdate, lastUpdate } = state;
  if (config.action === 'hold' || safeUpdate === null || safeUpdate === lastUpdate)
    return { state: held, decision: { step, kind: 'hold', metric, reference: before } };
  return {
    state: { ...held, restoring: safeUpdate },
    decision: { step, kind: 'restore', metric, reference: before, to: safeUpdate },
  };
}

/**
 * Asks at a mask update of the plan. `raises`: it would raise sparsity; others (regrowth at the same sparsity, a dense
 * phase) are made also while holding. An update that is made takes the schedule's sparsity of its own step, so the first
 * one after a hold catches up with all that were skipped.
 * Where a restore is due, it takes the place of the update.
 * @throws INTERNAL where evaluations of its clock or later were seen
 */
export function onUpdate(
  state: GuardState,
  step: number,
  raises: boolean,
): { readonly state: GuardState; readonly isMade: boolean } {
  if (step <= state.evaluatedAt || step < (state.lastUpdate ?? 0)) {
    throw new WhittleError('INTERNAL', `the guard was asked about the mask update of step ${step} out of order`);
  }
  const { restoring } = state;
  if (restoring !== null)
    return { state: { ...state, lastUpdate: restoring, restoring: null, owed: true }, isMade: false };
  if (state.holding && raises) return { state: { ...state, owed: true }, isMade: false };
  return { state: { ...state, lastUpdate: step, owed: state.holding && state.owed }, isMade: true };
}

/** Is there something to make up for, and may it be? */
export function owesUpdate(state: GuardState): boolean {
  return state.owed && !state.holding;
}

/** A decision in words: `guard held at step 1200: accuracy 96.10 % below 97.00 %`. */
export function sayDecision({ metric, band }: GuardConfig, decision: GuardDecision): string {
  const { step, kind, reference, to } = decision;
  const isAccuracy = metric === 'accuracy';
  const bound = isAccuracy ? reference - band : reference * (1 + band);
  const show = (value: number): string => (isAccuracy ? `${(100 * value).toFixed(2)} %` : value.toFixed(4));
  const side = isAccuracy ? 'below' : 'above';
  const compared = `${metric} ${show(decision.metric)} ${kind === 'resume' ? 'not ' : ''}${side} ${show(bound)}`;
  const did = { hold: 'held', resume: 'went on', restore: `goes back to the mask update of step ${to ?? 0}` }[kind];
  return `guard ${did} at step ${step}: ${compared}`;
}

function isInside({ metric, band }: GuardConfig, value: number, reference: number): boolean {
  return metric === 'accuracy' ? value >= reference - band : value <= reference * (1 + band);
}
