import type { WhittleError } from '../../../shared/errors.ts';
import type { RunFailure } from '../../../shared/telemetry/run-status.ts';
import { Signal } from '../signal.ts';
import type { RunOptions, RunOutcome } from './run-options.ts';

/** How long the word of a member that lost another waits for that other's own end. */
const WITNESS_MS = 1_000;

/** Who reported a failure, and what it knows of it. */
export interface FailureSource extends Pick<RunFailure, 'role' | 'rank'> {
  readonly stack?: string;
  readonly step?: number;
}

/** The end of a generation: the first reason counts. */
export class RunEnd {
  readonly #log: RunOptions['log'];
  readonly #progress: RunOptions['progress'];
  readonly #over = new Signal<RunOutcome>();
  readonly #abort = new AbortController();

  constructor({ log, progress }: Pick<RunOptions, 'log' | 'progress'>) {
    this.#log = log;
    this.#progress = progress;
  }

  get isOver(): boolean {
    return this.#over.isSet;
  }

  get outcome(): Promise<RunOutcome> {
    return this.#over.value;
  }

  /** Aborts whatever still waits. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  abort(): void {
    this.#abort.abort();
  }

  set(outcome: RunOutcome): void {
    this.#over.set(outcome);
  }

  rollBack(cause: WhittleError): void {
    if (this.isOver) return;
    this.#log.warn({ step: this.#progress.step }, `${cause.rawMessage}; going back to the last checkpoint`);
    this.set({ state: 'ROLLBACK', cause });
  }

  /** It could not go on: it goes back where a member was lost on the way, and fails otherwise. */
  broken(error: WhittleError): void {
    if (error.code === 'ROLE_LOST') this.rollBack(error);
    else this.failHere(error);
  }

  /** Who lost a peer is a witness and often hears of it first: the peer's own end, which is the cause, comes within a moment. */
  suspect(source: FailureSource, error: WhittleError): void {
    if (error.code !== 'ROLE_LOST') this.fail(source, error);
    else setTimeout(() => this.fail(source, error), WITNESS_MS).unref();
  }

  /** The scheduler itself found the failure. */
  failHere(error: WhittleError): void {
    this.fail({ role: 'scheduler', rank: 0 }, error);
  }

  fail({ role, rank, stack, step }: FailureSource, error: WhittleError): void {
    if (this.isOver) return;
    const failure: RunFailure = {
      role,
      rank,
      code: error.code,
      message: error.rawMessage,
      stack: stack ?? (error.isUserError ? '' : (error.stack ?? '')),
      step: step ?? this.#progress.step,
    };
    this.#log.error(
      { ...failure, role: undefined, rank: undefined, by: `${role}[${rank}]` },
      `the run failed: ${error.message}`,
    );
    this.set({ state: 'FAILED', failure });
  }
}
