import type { Manifest } from '../../../shared/checkpoint/manifest.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import type { GuardConfig } from '../../../shared/config/guard.ts';
import { withDeadline } from '../../../shared/rpc/deadline.ts';
import {
  type GuardNote,
  type GuardRecord,
  guardState,
  onEvaluation,
  onUpdate,
  owesUpdate,
  type SaidDecision,
  sayDecision,
} from '../../../shared/sparsity/guard.ts';
import { hasMaskStepAfter, lastUpdate, maskStepBefore } from '../../../shared/sparsity/mask-steps.ts';
import { planHasWork } from '../../../shared/sparsity/rules.ts';
import type { Evaluation } from '../evaluation.ts';

/** An evaluation stands in the way of a mask update or checkpoint at most this long. */
const EVALUATION_MS = 600_000;

export interface GuardDeskOptions {
  readonly config: RunConfig;
  readonly guard: GuardConfig;
  /** The checkpoint that the generation starts from. */
  readonly start: Manifest | null;
  readonly onChanged: (record: GuardRecord) => void;
  readonly onDecided: (decision: SaidDecision) => void;
}

/** What may be done at a mask step. */
export type GuardLeave =
  | { readonly kind: 'update'; readonly catchesUp: boolean }
  | { readonly kind: 'idle' }
  | { readonly kind: 'restore'; readonly to: number };

/**
 * The guard of a generation. Evaluations come when they come, mask steps when all servers hold; the desk gives both to
 * the state machine in the order of their clocks, and remembers its state at every one of them, since a checkpoint of
 * clock t, written later, keeps that of t.
 */
export class GuardDesk {
  readonly #options: GuardDeskOptions;
  readonly #early = new Map<number, Evaluation>();
  readonly #waiting: { readonly step: number; readonly resolve: () => void }[] = [];
  /** Ascending. `at`: twice the clock, one more after its evaluation. */
  #past: { readonly at: number; readonly record: GuardRecord }[];
  /** Clock of the evaluation that comes next. */
  #next: number;
  #settled: { readonly step: number; readonly leave: GuardLeave; readonly note: GuardNote } | null = null;
  /** Of the newest checkpoints that are kept, newest last. */
  #kept: readonly GuardRecord[];

  constructor(options: GuardDeskOptions) {
    this.#options = options;
    const { config, start } = options;
    const { evaluateEvery } = config.training;
    const clock = Math.max(1, start?.clock ?? 0);
    // At the clock it starts from the evaluation is done again.
    this.#next = Math.ceil(clock / evaluateEvery) * evaluateEvery;
    const record = start?.guard ?? { state: guardState(), decisions: [] };
    this.#past = [{ at: -1, record }];
    this.#kept = [record];
    options.onChanged(record);
  }

  evaluated(evaluation: Evaluation): void {
    if (evaluation.clock < this.#next) return;
    this.#early.set(evaluation.clock, evaluation);
    for (let next = this.#early.get(this.#next); next; next = this.#early.get(this.#next)) {
      this.#early.delete(this.#next);
      this.#take(next);
      this.#next += this.#options.config.training.evaluateEvery;
    }
    for (const { step, resolve } of this.#waiting) if (step <= this.#next) resolve();
  }

  /** Resolves when all evaluations of clocks below `step` are taken in. */
  seenBelow(step: number, signal: AbortSignal): Promise<void> {
    if (step <= this.#next) return Promise.resolve();
    const seen = new Promise<void>((resolve) => this.#waiting.push({ step, resolve }));
    return withDeadline(seen, EVALUATION_MS, `the evaluation of step ${this.#next}, which the guard needs`, signal);
  }

  /** What may be done at a mask step, once all evaluations before it are taken in. */
  leaveAt(step: number): GuardLeave {
    if (this.#settled?.step === step) return this.#settled.leave;
    const { state } = this.#record;
    if (state.restoring !== null) return { kind: 'restore', to: state.restoring };
    if (planHasWork(this.#options.config.sparsity, step)) return { kind: 'update', catchesUp: owesUpdate(state) };
    return owesUpdate(state) ? { kind: 'update', catchesUp: true } : { kind: 'idle' };
  }

  /** Settles a mask step, once, however often it is asked. `raises`: the update that is planned raises sparsity. */
  settle(step: number, raises: boolean): GuardNote {
    if (this.#settled?.step === step) return this.#settled.note;
    const { config } = this.#options;
    const leave = this.leaveAt(step);
    const since = maskStepBefore(config, step);
    const decisions = this.#record.decisions.filter((decision) => decision.step >= since && decision.step < step);
    const { state: before } = this.#record;
    let note: GuardNote = { action: before.holding && before.owed ? 'held' : 'idle', decisions };
    if (leave.kind !== 'idle') {
      const { state, isMade } = onUpdate(this.#record.state, step, raises);
      this.#remember(2 * step, { ...this.#record, state });
      if (leave.kind === 'restore') note = { action: 'restored', to: leave.to, decisions };
      else note = { action: !isMade ? 'held' : leave.catchesUp ? 'caughtUp' : 'updated', decisions };
    }
    this.#settled = { step, leave, note };
    return note;
  }

  /** What a checkpoint of this clock keeps. */
  recordAt(clock: number): GuardRecord {
    return this.#past.findLast(({ at }) => at <= 2 * clock)?.record ?? this.#record;
  }

  /** A checkpoint was written: what is older is not asked for again. */
  written(clock: number): void {
    const { keep } = this.#options.config.checkpoint;
    this.#kept = [...this.#kept, this.recordAt(clock)].slice(-keep);
    const first = this.#past.findLastIndex(({ at }) => at <= 2 * clock);
    this.#past = this.#past.slice(Math.max(0, first));
  }

  /** Clocks of checkpoints that may still be put back, also after going on from one of the checkpoints that are kept. */
  get clocksNeeded(): number[] {
    const records = [...this.#kept, ...this.#past.map(({ record }) => record)];
    return records.flatMap(({ state: { safeUpdate, lastUpdate, restoring } }) =>
      [safeUpdate, lastUpdate, restoring].filter((clock) => clock !== null),
    );
  }

  get #record(): GuardRecord {
    return (this.#past.at(-1) as { record: GuardRecord }).record;
  }

  #take({ clock, accuracy, loss }: Evaluation): void {
    const { guard, onDecided } = this.#options;
    if (!this.#matters(clock)) return;
    const { state, decision } = onEvaluation(guard, this.#record.state, { step: clock, accuracy, loss });
    const said = decision && { ...decision, said: sayDecision(guard, decision) };
    this.#remember(2 * clock + 1, { state, decisions: [...this.#record.decisions, ...(said ? [said] : [])] });
    if (said) onDecided(said);
  }

  /** Whether a decision could have an effect: there is something left to hold, to go on with, or to undo. */
  #matters(clock: number): boolean {
    const { config, guard } = this.#options;
    const { owed, holding, safeUpdate, lastUpdate: last } = this.#record.state;
    if (!hasMaskStepAfter(config, clock)) return false;
    return clock < lastUpdate(config) || owed || holding || (guard.action === 'restore' && safeUpdate !== last);
  }

  #remember(at: number, record: GuardRecord): void {
    this.#past.push({ at, record });
    this.#options.onChanged(record);
  }
}
