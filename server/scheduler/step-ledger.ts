import type { StepRecord__Output } from '../../protos/generated/whittle/StepRecord.ts';

/** One step as all servers saw it. */
export interface CompletedStep {
  readonly step: number;
  readonly loss: number;
  readonly seconds: number;
  readonly bytesPushed: number;
  readonly bytesPulled: number;
  readonly bytesMasks: number;
  readonly sliceWorkers: readonly number[];
  /** When each slice arrived, milliseconds after its worker had weights for it; empty where not known. */
  readonly sliceMilliseconds: readonly number[];
}

interface Pending {
  /** Servers that have reported the step. */
  readonly reporters: Set<number>;
  loss: number;
  at: number;
  pushed: number;
  pulled: number;
  masks: number;
  sliceWorkers: readonly number[];
  sliceMilliseconds: readonly number[];
}

/**
 * Joins the servers' step records; a step is complete when every server has applied it. Steps come out in order, and
 * each once: servers report again to a scheduler that took over what the one before may not have written down.
 */
export class StepLedger {
  readonly #servers: number;
  readonly #pending = new Map<number, Pending>();
  #next: number;
  #lastAt: number | null = null;

  constructor(servers: number, clock: number) {
    this.#servers = servers;
    this.#next = clock + 1;
  }

  /** Loss, time and slice owners are taken from server 0; bytes are added over the servers. */
  add(server: number, record: StepRecord__Output): void {
    if (record.step < this.#next) return;
    let step = this.#pending.get(record.step);
    if (!step) {
      step = {
        reporters: new Set(),
        loss: 0,
        at: 0,
        pushed: 0,
        pulled: 0,
        masks: 0,
        sliceWorkers: [],
        sliceMilliseconds: [],
      };
      this.#pending.set(record.step, step);
    }
    if (step.reporters.has(server)) return;
    step.reporters.add(server);
    step.pushed += record.pushedBytes;
    step.pulled += record.pulledBytes;
    step.masks += record.maskBytes;
    if (server === 0) {
      step.loss = record.loss;
      step.at = record.at;
      step.sliceWorkers = record.sliceWorkers;
      step.sliceMilliseconds = record.sliceMilliseconds;
    }
  }

  /** Takes out the steps that became complete. */
  takeCompleted(): CompletedStep[] {
    const done: CompletedStep[] = [];
    for (let step = this.#pending.get(this.#next); step?.reporters.size === this.#servers;) {
      this.#pending.delete(this.#next);
      done.push({
        step: this.#next,
        loss: step.loss,
        seconds: this.#lastAt === null ? 0 : (step.at - this.#lastAt) / 1000,
        bytesPushed: step.pushed,
        bytesPulled: step.pulled,
        bytesMasks: step.masks,
        sliceWorkers: step.sliceWorkers,
        sliceMilliseconds: step.sliceMilliseconds,
      });
      this.#lastAt = step.at;
      this.#next += 1;
      step = this.#pending.get(this.#next);
    }
    return done;
  }
}
