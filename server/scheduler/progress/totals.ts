import type { Recovery, RunStatus, SocketTotals, StepMetrics } from '../../../shared/telemetry/run-status.ts';

/** What a run computed and sent under all its generations, and how often it had to recover. */
export class Totals {
  resumedFrom: number | null = null;
  #stepsComputed = 0;
  readonly #slicesByWorker = new Map<number, number>();
  readonly #bytes = { pushed: 0, pulled: 0, masks: 0 };
  readonly #sockets = new Map<number, SocketTotals>();
  readonly #recoveries: Recovery[] = [];
  /** The newest recovery until the run has passed the step where it was interrupted. */
  #recovering: { readonly recovery: Recovery; readonly began: number } | null = null;

  get stepsComputed(): number {
    return this.#stepsComputed;
  }

  get recoveries(): Recovery[] {
    return [...this.#recoveries];
  }

  get slicesByWorker(): Record<string, number> {
    return Object.fromEntries([...this.#slicesByWorker].sort(([a], [b]) => a - b));
  }

  get bytes(): { pushed: number; pulled: number; masks: number } {
    return { ...this.#bytes };
  }

  /** By server. */
  get sockets(): Record<string, SocketTotals> {
    return Object.fromEntries(this.#sockets);
  }

  /** Bytes that crossed sockets beyond what was pushed, pulled and sent of masks. */
  get control(): number {
    const socket = [...this.#sockets.values()].reduce((sum, { ended, now }) => sum + ended + now, 0);
    const { pushed, pulled, masks } = this.#bytes;
    return Math.max(0, socket - pushed - pulled - masks);
  }

  /** Goes on from what the scheduler before counted. */
  takeOver(totals: RunStatus['totals']): void {
    this.resumedFrom = totals.resumedFrom;
    this.#recoveries.push(...totals.recoveries);
    this.#stepsComputed = totals.stepsComputed;
    for (const [worker, slices] of Object.entries(totals.slicesByWorker))
      this.#slicesByWorker.set(Number(worker), slices);
    Object.assign(this.#bytes, totals.bytes);
    for (const [server, sockets] of Object.entries(totals.sockets ?? {})) this.#sockets.set(Number(server), sockets);
  }

  count(record: StepMetrics): void {
    this.#stepsComputed += 1;
    for (const worker of record.workers) this.#slicesByWorker.set(worker, (this.#slicesByWorker.get(worker) ?? 0) + 1);
    this.#bytes.pushed += record.bytesPushed;
    this.#bytes.pulled += record.bytesPulled;
  }

  countMasks(bytes: number): void {
    this.#bytes.masks += bytes;
  }

  /** @param bytes of the server's process so far; one that was started again counts from 0 */
  setSocketBytes(server: number, bytes: number): void {
    const { ended, now } = this.#sockets.get(server) ?? { ended: 0, now: 0 };
    this.#sockets.set(server, { ended: bytes < now ? ended + now : ended, now: bytes });
  }

  recovers(cause: string, step: number, resumedFrom: number | null): void {
    const recovery: Recovery = { cause, step, resumedFrom, pauseSeconds: 0 };
    this.#recoveries.push(recovery);
    this.#recovering = { recovery, began: performance.now() };
  }

  /** A recovery's pause ends when the run is further than it was. */
  passed(step: number): void {
    if (!this.#recovering || step <= this.#recovering.recovery.step) return;
    const { recovery, began } = this.#recovering;
    this.#recovering = null;
    const pauseSeconds = (performance.now() - began) / 1000;
    this.#recoveries[this.#recoveries.indexOf(recovery)] = { ...recovery, pauseSeconds };
  }
}
