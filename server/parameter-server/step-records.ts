import type { StepRecord } from '../../protos/generated/whittle/StepRecord.ts';
import type { Traffic } from './exchanges.ts';
import { SliceTimes } from './slice-times.ts';
import { StepReporter } from './step-reporter.ts';

/** A step that the shard has applied. */
export interface AppliedStep {
  readonly step: number;
  readonly loss: number;
  readonly sliceWorkers: readonly number[];
  readonly at: number;
}

/** One record a step, made when its answers are sent, so that their bytes belong to it. */
export class StepRecords {
  readonly reporter: StepReporter;
  readonly #traffic: () => Traffic;
  readonly #times = new SliceTimes();
  #applied: AppliedStep[] = [];
  /** What earlier records account for. */
  #counted: Traffic = { pushed: 0, pulled: 0, masks: 0 };

  constructor(report: (steps: StepRecord[]) => void, traffic: () => Traffic) {
    this.reporter = new StepReporter(report);
    this.#traffic = traffic;
  }

  /** A slice of a step is here. `milliseconds`: since its sender's last answer; null before the first. */
  arrived(step: number, slice: number, milliseconds: number | null): void {
    if (milliseconds !== null) this.#times.arrived(step, slice, milliseconds);
  }

  applied(step: AppliedStep): void {
    this.#applied.push(step);
  }

  /** The answers of `clock` are on their way. `lastStep`: of the run; its record is handed on at once. */
  answered(clock: number, lastStep: number): void {
    for (let step = this.#applied[0]; step && step.step <= clock; step = this.#applied[0]) {
      this.#applied.shift();
      this.#record(step, step.step === lastStep);
    }
  }

  /** A new generation. */
  reset(): void {
    this.#applied = [];
    this.#times.reset();
    this.reporter.reset();
  }

  #record({ step, loss, sliceWorkers, at }: AppliedStep, isLast: boolean): void {
    const total = this.#traffic();
    const { pushed, pulled, masks } = this.#counted;
    this.#counted = total;
    const record = {
      step,
      loss,
      pushedBytes: total.pushed - pushed,
      pulledBytes: total.pulled - pulled,
      maskBytes: total.masks - masks,
      at,
      sliceWorkers: [...sliceWorkers],
      sliceMilliseconds: this.#times.take(step),
    };
    this.reporter.add(record, isLast);
  }
}
