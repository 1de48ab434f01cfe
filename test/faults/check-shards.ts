import { sliceSizes } from '../../shared/layout/slices.ts';
import type { HistoryRecord, ProcessHistory, PushEvent } from '../../shared/telemetry/history-records.ts';
import { type Era, type Expectation, recordsOf, type Report } from './history-timeline.ts';

/** Within each server process: what it did belongs to the generation, clock and mask epoch that it had. */
export function checkServerProcesses(
  processes: readonly ProcessHistory[],
  expected: Expectation,
  report: Report,
): void {
  const deadOf = deadByMask(processes);
  for (const { role, rank, pid, records } of processes) {
    if (role === 'server')
      new ServerProcess(`server[${rank}] (process ${pid})`, expected, deadOf, report).follow(records);
  }
}

class ServerProcess {
  readonly #who: string;
  readonly #expected: Expectation;
  readonly #deadOf: ReadonlyMap<string, number>;
  readonly #report: Report;
  #generation = 0;
  #clock = 0;
  #maskEpoch = 0;
  #maskStep = -1;
  #dead: number | null = 0;

  constructor(who: string, expected: Expectation, deadOf: ReadonlyMap<string, number>, report: Report) {
    this.#who = who;
    this.#expected = expected;
    this.#deadOf = deadOf;
    this.#report = report;
  }

  follow(records: readonly HistoryRecord[]): void {
    for (const record of records) {
      if (record.kind === 'shard-taken') {
        if (record.generation < this.#generation) {
          this.#report(7, `${this.#who} took generation ${record.generation} after ${this.#generation}`);
        }
        this.#generation = record.generation;
        this.#clock = record.clock;
        this.#maskEpoch = record.maskEpoch;
        this.#maskStep = -1;
        // What is dead in a checkpoint was written down when its mask came into force; not where shards were cut anew.
        this.#dead = record.maskEpoch === 0 ? 0 : (this.#deadOf.get(maskKey(record)) ?? null);
        continue;
      }
      // A shard file is written in the background, and a newer generation may begin meanwhile: it has no effect then.
      if (record.kind === 'shard-written') continue;
      const hasEffect = record.kind !== 'push' || record.verdict === 'accepted';
      if (hasEffect && record.generation !== this.#generation) {
        this.#report(
          7,
          `${this.#who} in generation ${this.#generation}: ${record.kind} of generation ${record.generation} had an effect`,
        );
      } else this.#check(record);
    }
  }

  #check(record: HistoryRecord): void {
    const { mode, staleness } = this.#expected;
    if (record.kind === 'applied') {
      if (record.maskEpoch !== this.#maskEpoch) {
        this.#report(
          3,
          `${this.#who} applied step ${record.step} under mask epoch ${record.maskEpoch}, not ${this.#maskEpoch}`,
        );
      }
      if (mode === 'bsp' && record.step !== this.#clock + 1) {
        this.#report(1, `${this.#who} applied step ${record.step} at clock ${this.#clock}`);
      }
      this.#clock = Math.max(this.#clock, record.clock);
    } else if (record.kind === 'push' && record.verdict === 'accepted') {
      if (mode === 'bsp' && record.maskEpoch !== this.#maskEpoch) {
        this.#report(
          3,
          `${this.#who} accepted step ${record.step}, slice ${record.slice} of mask epoch ${record.maskEpoch} in ${this.#maskEpoch}`,
        );
      }
    } else if (record.kind === 'read') {
      const { worker, given, asked, workerClock } = record;
      const least = mode === 'asp' ? 0 : mode === 'ssp' ? workerClock - staleness : workerClock;
      if (given < Math.max(asked, least)) {
        this.#report(
          2,
          `${this.#who} gave worker[${worker}] at clock ${workerClock}, which asked for ${asked}, weights of clock ${given}`,
        );
      }
      if (given > this.#clock) this.#report(2, `${this.#who} at clock ${this.#clock} gave weights of clock ${given}`);
    } else if (record.kind === 'mask') this.#mask(record);
  }

  #mask(record: Extract<HistoryRecord, { kind: 'mask' }>): void {
    const { step, maskEpoch, removed, regrown, dead } = record;
    if (maskEpoch !== this.#maskEpoch + 1 || step <= this.#maskStep) {
      this.#report(
        3,
        `${this.#who}: mask epoch ${maskEpoch} at step ${step} follows ${this.#maskEpoch} at step ${this.#maskStep}`,
      );
    }
    if (step !== this.#clock)
      this.#report(3, `${this.#who}: mask epoch ${maskEpoch} of step ${step} came into force at clock ${this.#clock}`);
    if (regrown !== 0) this.#report(5, `${this.#who}: ${regrown} elements came back in mask epoch ${maskEpoch}`);
    if (this.#dead !== null && dead !== this.#dead + removed - regrown) {
      this.#report(
        5,
        `${this.#who}: ${dead} dead in mask epoch ${maskEpoch}, ${this.#dead} before it and ${removed} removed`,
      );
    }
    this.#maskEpoch = maskEpoch;
    this.#maskStep = step;
    this.#dead = dead;
  }
}

/** Dead elements by range and mask epoch, from when the masks came into force. */
function deadByMask(processes: readonly ProcessHistory[]): ReadonlyMap<string, number> {
  const dead = new Map<string, number>();
  for (const { records } of processes) {
    let range = { start: 0, end: 0 };
    for (const record of records) {
      if (record.kind === 'shard-taken') range = record;
      else if (record.kind === 'mask') dead.set(maskKey({ ...range, maskEpoch: record.maskEpoch }), record.dead);
    }
  }
  return dead;
}

function maskKey({ start, end, maskEpoch }: { start: number; end: number; maskEpoch: number }): string {
  return `${start}-${end}/${maskEpoch}`;
}

/** Along the timeline every shard applied every slice of every step once, from one accepted push of the right examples. */
export function checkAppliedOnce(
  processes: readonly ProcessHistory[],
  timeline: readonly Era[],
  expected: Expectation,
  report: Report,
): void {
  const applied = countApplied(processes, report);
  const accepted = acceptedPushes(processes, report);
  const sizes = sliceSizes(expected.batchSize, expected.slices);
  const shards = new Set(recordsOf(processes, 'shard-taken').map(({ shard }) => shard));
  for (let shard = 0; shard < expected.servers; shard += 1)
    if (!shards.has(shard)) report(1, `shard ${shard} was never taken`);
  let last = 0;
  for (const { generation, after, until } of timeline) {
    if (after !== last)
      report(1, `generation ${generation} goes on from step ${after}, the one before it ends at ${last}`);
    const end = until === Infinity ? reached(processes, generation, expected) : until;
    for (let shard = 0; shard < expected.servers; shard += 1) {
      for (let step = after + 1; step <= end; step += 1) {
        for (let slice = 0; slice < expected.slices; slice += 1) {
          const key = keyOf(generation, shard, step, slice);
          const sender = applied.get(key);
          if (sender === undefined) {
            report(1, `shard ${shard} never applied slice ${slice} of step ${step} in generation ${generation}`);
            continue;
          }
          const push = accepted.get(key);
          if (push === undefined)
            report(1, `shard ${shard} applied slice ${slice} of step ${step}, which it did not accept`);
          else if (push.sender !== sender)
            report(
              1,
              `shard ${shard} applied slice ${slice} of step ${step} of worker[${sender}], and accepted it from worker[${push.sender}]`,
            );
          else if (push.examples !== sizes[slice]) {
            report(
              8,
              `slice ${slice} of step ${step} on shard ${shard} has ${push.examples} examples, not ${sizes[slice]}`,
            );
          }
        }
      }
    }
    last = end;
  }
  if (expected.succeeded && last !== expected.steps) report(8, `the run ended at step ${last} of ${expected.steps}`);
}

/** Sender by (generation, shard, step, slice); applied twice is a violation wherever it happened. */
function countApplied(processes: readonly ProcessHistory[], report: Report): Map<string, number> {
  const applied = new Map<string, number>();
  for (const { generation, shard, step, slices, senders } of recordsOf(processes, 'applied')) {
    slices.forEach((slice, i) => {
      const key = keyOf(generation, shard, step, slice);
      if (applied.has(key))
        report(1, `shard ${shard} applied slice ${slice} of step ${step} twice in generation ${generation}`);
      applied.set(key, senders[i] ?? -1);
    });
  }
  return applied;
}

function acceptedPushes(processes: readonly ProcessHistory[], report: Report): Map<string, PushEvent> {
  const accepted = new Map<string, PushEvent>();
  for (const push of recordsOf(processes, 'push')) {
    if (push.verdict !== 'accepted') continue;
    const key = keyOf(push.generation, push.shard, push.step, push.slice);
    if (accepted.has(key))
      report(
        1,
        `shard ${push.shard} accepted slice ${push.slice} of step ${push.step} twice in generation ${push.generation}`,
      );
    accepted.set(key, push);
  }
  return accepted;
}

/** Last step of the newest generation: the run's last where it succeeded, else what every shard has applied. */
function reached(processes: readonly ProcessHistory[], generation: number, expected: Expectation): number {
  if (expected.succeeded) return expected.steps;
  const clocks = new Map<number, number>();
  for (const record of [...recordsOf(processes, 'shard-taken'), ...recordsOf(processes, 'applied')]) {
    if (record.generation === generation)
      clocks.set(record.shard, Math.max(clocks.get(record.shard) ?? 0, record.clock));
  }
  return clocks.size < expected.servers ? 0 : Math.min(...clocks.values());
}

function keyOf(generation: number, shard: number, step: number, slice: number): string {
  return `${generation}/${shard}/${step}/${slice}`;
}
