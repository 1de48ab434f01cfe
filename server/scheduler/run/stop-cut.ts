import type { Members } from '../members.ts';
import type { RunProgress } from '../progress/run-progress.ts';

/** Steps ahead of the newest known clock that a cut on demand is proposed for. */
const CUT_MARGIN = 3;

export interface StopCutOptions {
  readonly members: Members;
  readonly progress: RunProgress;
  /** Steps of the whole run. */
  readonly steps: number;
}

/** A stop on its way: the clock that all servers can still reach together, where they checkpoint and stop. */
export class StopCut {
  readonly #options: StopCutOptions;
  #reason: string | null = null;
  #clock = -1;
  #refusals = 0;

  constructor(options: StopCutOptions) {
    this.#options = options;
  }

  /** Why the run stops, or null. */
  get reason(): string | null {
    return this.#reason;
  }

  /** Where the run is to stop; -1: nowhere. */
  get clock(): number {
    return this.#clock;
  }

  /** The first reason counts. */
  because(reason: string): void {
    this.#reason ??= reason;
  }

  propose(): void {
    const { members, progress, steps } = this.#options;
    const clock = Math.max(progress.newestClock, ...members.of('server').map((server) => server.clock));
    this.#clock = Math.min(steps, clock + CUT_MARGIN * (1 + this.#refusals));
    members.broadcast('server', { cutAt: { clock: this.#clock, stop: this.#clock < steps } });
  }

  /** A server is at `clock` already, beyond what was proposed. */
  refused(clock: number): void {
    this.#refusals += 1;
    this.#options.progress.sawClock(clock);
    this.propose();
  }
}
