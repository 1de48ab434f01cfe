import type { Member } from '../members.ts';
import { SliceDesk } from '../slice-desk.ts';
import { Stragglers, type StepTimes } from '../stragglers.ts';
import type { CompletedStep } from '../step-ledger.ts';
import type { WorkerDescriptions } from '../worker-descriptions.ts';
import type { RunOptions } from './run-options.ts';
import type { ServerGroup } from './server-group.ts';

/** Steps between looks at who is slow. */
const BALANCE_EVERY = 25;

export type WorkforceOptions = Pick<
  RunOptions,
  'config' | 'generation' | 'history' | 'log' | 'members' | 'progress'
> & {
  readonly descriptions: WorkerDescriptions;
  readonly servers: ServerGroup;
};

/** The workers of a generation and what each computes. They come and go at any time. */
export class Workforce {
  readonly #options: WorkforceOptions;
  readonly #desk: SliceDesk;
  readonly #stragglers = new Stragglers();

  constructor(options: WorkforceOptions) {
    this.#options = options;
    const { config, generation, history, members, progress } = options;
    this.#desk = new SliceDesk({
      members,
      slices: config.cluster.slices,
      backupWorkers: config.consistency.backupWorkers,
      onAssigned: (assignment) => {
        history.record({ kind: 'assignment', generation, slices: Object.fromEntries(assignment) });
        progress.setSlices(assignment);
      },
    });
  }

  /** Workers that have built the model. */
  get members(): Member[] {
    return this.#options.members.of('worker').filter(({ rank }) => this.#options.descriptions.has(rank));
  }

  /** Workers that hold the weights of the newest clock: those with slices. */
  get holders(): number[] {
    return this.members.flatMap(({ rank }) => (this.#desk.slicesOf(rank).length > 0 ? [rank] : []));
  }

  /** How long a worker takes for a step; null where not known. */
  stepTimesOf(worker: number): StepTimes | null {
    return this.#stragglers.timesOf(worker);
  }

  begin(clock: number): void {
    const workers = this.members;
    this.#desk.add(workers, clock + 1);
    for (const worker of workers) this.#sendBegin(worker);
  }

  /** Takes one in while training goes on. */
  join(worker: Member): void {
    const { progress } = this.#options;
    if (!this.#desk.has(worker)) this.#desk.add([worker], progress.newestClock + 1);
    this.#sendBegin(worker);
    progress.say('training');
  }

  /** Takes one out whose session is over. `how` it went is told only while training goes on; null otherwise. */
  leave(rank: number, how: string | null): void {
    const { log, progress } = this.#options;
    this.#stragglers.forget(rank);
    const handedOver = this.#desk.remove(rank, progress.newestClock + 1);
    if (how === null) return;
    const others = this.#desk.workers;
    const slices = handedOver ? `its slices move to ${others} others` : 'it had no slices';
    const consequence = others === 0 ? 'training waits for a worker' : slices;
    log.warn({ worker: rank }, `worker[${rank}] ${how}; ${consequence}`);
    progress.say(others === 0 ? 'waiting for a worker' : 'training');
  }

  /** Learns from completed steps who is slow, and hands a slice of the slowest over where that makes steps shorter. */
  completed(steps: readonly CompletedStep[]): void {
    for (const step of steps) this.#stragglers.add(step);
    if (steps.some(({ step }) => step % BALANCE_EVERY === 0)) this.#balance();
  }

  #balance(): void {
    const { log, progress } = this.#options;
    const advice = this.#stragglers.advise(this.#desk.assignment);
    if (!advice) return;
    const { from, to, slice } = advice;
    const times = this.#stragglers.timesOf(from);
    log.info(
      { step: progress.step, slice, from, to, median: times?.median, p90: times?.p90 },
      `worker[${from}] is slow: slice ${slice} moves to worker[${to}]`,
    );
    this.#stragglers.moved(from, to);
    this.#desk.move(slice, from, to, progress.newestClock + 1);
  }

  #sendBegin(worker: Member): void {
    const { members, progress, servers } = this.#options;
    const clock = progress.newestClock;
    const assignment = this.#desk.messageFor(worker.rank, clock + 1);
    members.send(worker, { begin: { ...servers.layout, clock, assignment } });
  }
}
