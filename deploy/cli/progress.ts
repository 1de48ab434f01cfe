import type { RunStatus } from '../../shared/telemetry/run-status.ts';
import { formatBytes, formatDuration, formatPercent } from './quantities.ts';

/** Where progress goes: a terminal's line is redrawn, elsewhere lines are added. */
export interface ProgressStream {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/** Milliseconds between lines where nothing particular happens. */
const LINE_EVERY = 2_000;

/** Shows a run's progress from its statuses. */
export class Progress {
  readonly #stream: ProgressStream;
  readonly #live: boolean;
  readonly #now: () => number;
  #last: RunStatus | null = null;
  #lastLineAt = Number.NEGATIVE_INFINITY;
  #drawn = false;

  constructor(stream: ProgressStream, options: { readonly now?: () => number } = {}) {
    this.#stream = stream;
    this.#live = stream.isTTY === true;
    this.#now = options.now ?? Date.now;
  }

  update(status: RunStatus): void {
    const events = this.#last === null ? [] : describeEvents(this.#last, status);
    const waiting = status.state === 'PENDING' || status.step === 0;
    const line = waiting ? waitingLine(status) : statusLine(status);
    if (this.#live) {
      for (const event of events) this.line(event);
      this.#draw(line);
    } else {
      const changed = this.#last === null || (waiting && status.activity !== this.#last.activity);
      const moved = this.#last === null || status.step !== this.#last.step;
      const due = this.#now() - this.#lastLineAt >= LINE_EVERY;
      if (events.length > 0 || changed || (due && moved)) {
        this.#stream.write(`${line}${events.length === 0 ? '' : `  (${events.join('; ')})`}\n`);
        this.#lastLineAt = this.#now();
      }
    }
    this.#last = status;
  }

  /** A line that stays. */
  line(text: string): void {
    this.clear();
    this.#stream.write(`${text}\n`);
  }

  /** Removes the live line, before something else is written. */
  clear(): void {
    if (this.#drawn) this.#stream.write('\r\u001b[2K');
    this.#drawn = false;
  }

  #draw(line: string): void {
    // A line wider than the terminal would wrap, and \r returns to its last row only. A width of 0 is not known.
    const columns = Math.max(20, this.#stream.columns || 80) - 1;
    this.#stream.write(`\r\u001b[2K${line.length > columns ? `${line.slice(0, columns - 1)}…` : line}`);
    this.#drawn = true;
  }
}

/** `step 412/5616  loss 0.1234  accuracy 97.85 % at 400  sparsity 45.0 % ...`. */
export function statusLine(status: RunStatus): string {
  const parts = [`step ${String(status.step).padStart(String(status.totalSteps).length)}/${status.totalSteps}`];
  if (status.loss !== null) parts.push(`loss ${status.loss.toFixed(4)}`);
  if (status.testAccuracy !== null)
    parts.push(`accuracy ${formatPercent(status.testAccuracy)} at ${status.evaluatedAt ?? status.step}`);
  if (status.targetSparsity > 0 || status.sparsity > 0) {
    const actual = formatPercent(status.sparsity);
    const isThere = actual === formatPercent(status.targetSparsity);
    parts.push(`sparsity ${actual}${isThere ? '' : ` (target ${formatTarget(status)})`}`);
  }
  if (status.examplesPerSecond > 0) parts.push(`${Math.round(status.examplesPerSecond)} examples/s`);
  if (status.bytesPerStep > 0) parts.push(`${formatBytes(status.bytesPerStep)}/step`);
  if (status.secondsLeft !== null && status.state === 'RUNNING')
    parts.push(`${formatDuration(status.secondsLeft)} left`);
  return parts.join('  ');
}

/** Rules of units are about units: how many elements go with them shows only then. */
export function formatTarget({ targetSparsity, isTargetEstimated }: RunStatus): string {
  return `${isTargetEstimated === true ? 'about ' : ''}${formatPercent(targetSparsity)}`;
}

function waitingLine(status: RunStatus): string {
  return status.activity === '' ? status.state.toLowerCase() : status.activity;
}

/** What happened between two statuses that is worth a line of its own. */
export function describeEvents(before: RunStatus, after: RunStatus): string[] {
  const events: string[] = [];
  if (after.generation !== before.generation && before.step > 0) {
    events.push(`generation ${after.generation}: back to step ${after.step}`);
  }
  if (after.maskEpoch > before.maskEpoch)
    events.push(`mask ${after.maskEpoch}: sparsity ${formatPercent(after.sparsity)}`);
  if (after.evaluatedAt !== null && after.evaluatedAt !== before.evaluatedAt && after.testAccuracy !== null) {
    events.push(
      `evaluated step ${after.evaluatedAt}: accuracy ${formatPercent(after.testAccuracy)}${after.testLoss === null ? '' : `, loss ${after.testLoss.toFixed(4)}`}`,
    );
  }
  // What a running run does besides training: it stops, or a checkpoint could not be written.
  if (after.state === 'RUNNING' && after.activity !== before.activity && after.activity !== 'training') {
    events.push(after.activity);
  }
  if (after.lastCheckpoint !== null && after.lastCheckpoint.step !== before.lastCheckpoint?.step) {
    events.push(`checkpoint of step ${after.lastCheckpoint.step}`);
  }
  return events;
}
