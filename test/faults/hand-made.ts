import type { HistoryEvent, HistoryRecord, ProcessHistory } from '../../shared/telemetry/history-records.ts';
import type { Expectation } from './history-timeline.ts';

/** A small run as the checker sees it: 2 servers, 2 slices, 6 steps, updates at 2 and 4, checkpoints at 0, 3 and 6. */
export const EXPECTED: Expectation = {
  mode: 'bsp',
  staleness: 0,
  servers: 2,
  slices: 2,
  batchSize: 10,
  steps: 6,
  updateSteps: [2, 4],
  deadAt: (step) => 4 * step,
  succeeded: true,
};

export type Change = (event: HistoryEvent) => readonly HistoryEvent[];

/**
 * The history of a run whose server[1] dies at step 5 of generation 1: generation 2 goes on from step 3.
 * `change` answers what stands in the place of each event.
 */
export function handMade(change: Change = (event) => [event]): ProcessHistory[] {
  const files: { role: ProcessHistory['role']; rank: number; pid: number; events: HistoryEvent[] }[] = [];
  const open = (role: ProcessHistory['role'], rank: number, pid: number): HistoryEvent[] => {
    const events: HistoryEvent[] = [];
    files.push({ role, rank, pid, events });
    return events;
  };
  const scheduler = open('scheduler', 0, 1);
  const servers = [open('server', 0, 2), open('server', 1, 3)];
  scheduler.push({ kind: 'generation', generation: 1, adopted: false, from: null });
  servers.forEach((events, shard) => events.push(taken(shard, 1, 0)));
  checkpoint(scheduler, servers, 1, 0);
  for (let step = 1; step <= 5; step += 1) train(scheduler, servers.slice(0, step === 5 ? 1 : 2), 1, step);
  scheduler.push({ kind: 'member', generation: 1, role: 'server', rank: 1, pid: 3, change: 'lost' });
  scheduler.push({
    kind: 'generation',
    generation: 2,
    adopted: false,
    from: { clock: 3, checkpoint: 'step-00000003-g1' },
  });
  const restarted = [servers[0]!, open('server', 1, 4)];
  restarted.forEach((events, shard) => events.push(taken(shard, 2, 3)));
  for (let step = 4; step <= 6; step += 1) train(scheduler, restarted, 2, step);
  scheduler.push({ kind: 'ended', generation: 2, state: 'SUCCEEDED', clock: 6 });
  return files.map(({ events, ...file }) => ({
    ...file,
    records: events.flatMap(change).map((event): HistoryRecord => ({ at: 0, ...event })),
  }));
}

function taken(shard: number, generation: number, clock: number): HistoryEvent {
  const folder = clock === 0 ? null : `step-0000000${clock}-g1`;
  return { kind: 'shard-taken', shard, generation, ...rangeOf(shard), clock, maskEpoch: epochAt(clock), folder };
}

function train(scheduler: HistoryEvent[], servers: readonly HistoryEvent[][], generation: number, step: number): void {
  servers.forEach((events, shard) => {
    const maskEpoch = epochAt(step - 1);
    for (const slice of [0, 1]) {
      const push = { shard, generation, step, slice, maskEpoch, sender: slice, examples: 5 };
      events.push({ kind: 'push', ...push, verdict: 'accepted' });
    }
    events.push({
      kind: 'push',
      shard,
      generation,
      step,
      slice: 0,
      maskEpoch,
      sender: 1,
      examples: 5,
      verdict: 'duplicate',
    });
    events.push({ kind: 'applied', shard, generation, step, slices: [0, 1], senders: [0, 1], maskEpoch, clock: step });
  });
  if (EXPECTED.updateSteps.includes(step)) {
    const maskEpoch = epochAt(step);
    scheduler.push({ kind: 'commit-decided', generation, step, maskEpoch, digest: `record-${step}` });
    servers.forEach((events, shard) =>
      events.push({
        kind: 'mask',
        shard,
        generation,
        step,
        maskEpoch,
        removed: 4,
        regrown: 0,
        dead: 2 * step,
        digest: maskOf(shard, maskEpoch),
      }),
    );
  }
  servers.forEach((events, shard) => {
    for (const worker of [0, 1]) {
      const read = { shard, generation, worker, workerClock: step, asked: step, given: step };
      events.push({ kind: 'read', ...read, maskEpoch: epochAt(step) });
    }
  });
  if (step % 3 === 0) checkpoint(scheduler, servers, generation, step);
}

function checkpoint(
  scheduler: HistoryEvent[],
  servers: readonly HistoryEvent[][],
  generation: number,
  clock: number,
): void {
  const maskEpoch = epochAt(clock);
  servers.forEach((events, shard) => {
    const sha256 = `file-${shard}-${clock}`;
    const maskDigest = maskOf(shard, maskEpoch);
    events.push({ kind: 'shard-written', shard, generation, clock, maskEpoch, ...rangeOf(shard), sha256, maskDigest });
  });
  const shards = servers.map((_, shard) => ({ ...rangeOf(shard), sha256: `file-${shard}-${clock}` }));
  for (const phase of ['offered', 'committed'] as const) {
    const folder = `step-0000000${clock}-g${generation}`;
    scheduler.push({ kind: 'checkpoint', phase, generation, clock, maskEpoch, folder, shards });
  }
}

function rangeOf(shard: number): { start: number; end: number } {
  return { start: 64 * shard, end: 64 * (shard + 1) };
}

function epochAt(clock: number): number {
  return EXPECTED.updateSteps.filter((step) => step <= clock).length;
}

function maskOf(shard: number, maskEpoch: number): string {
  return `mask-${shard}-${maskEpoch}`;
}
