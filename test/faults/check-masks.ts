import type { MaskEvent, ProcessHistory, ShardTakenEvent } from '../../shared/telemetry/history-records.ts';
import { type Era, type Expectation, recordsOf, type Report } from './history-timeline.ts';

/** Mask epochs: the same on all shards, at the steps and with the counts of the schedule, and the same when done again. */
export function checkMasks(
  processes: readonly ProcessHistory[],
  timeline: readonly Era[],
  expected: Expectation,
  report: Report,
): void {
  const masks = recordsOf(processes, 'mask');
  checkCounts(masks, expected, report);
  checkRepeated(processes, masks, expected, report);
  checkTimeline(masks, timeline, expected, report);
}

/** Where all shards of a generation have an epoch, the dead are as many as the schedule says. */
function checkCounts(masks: readonly MaskEvent[], expected: Expectation, report: Report): void {
  for (const [where, group] of groupBy(
    masks,
    ({ generation, maskEpoch }) => `generation ${generation}, mask epoch ${maskEpoch}`,
  )) {
    const shards = new Map(group.map((event) => [event.shard, event]));
    if (shards.size < group.length) report(3, `${where}: a shard put it into force twice`);
    const steps = new Set(group.map(({ step }) => step));
    if (steps.size > 1) report(3, `${where}: shards have it at steps ${[...steps].join(' and ')}`);
    const step = group[0]?.step ?? 0;
    if (!expected.updateSteps.includes(step)) report(4, `${where}: step ${step} is no update step`);
    if (shards.size < expected.servers) continue;
    const dead = group.reduce((sum, event) => sum + event.dead, 0);
    if (dead !== expected.deadAt(step))
      report(4, `${where}: ${dead} elements are dead after step ${step}, the schedule says ${expected.deadAt(step)}`);
  }
}

/** In bsp an epoch that is done again after a rollback has the same mask; so has the record that was decided. */
function checkRepeated(
  processes: readonly ProcessHistory[],
  masks: readonly MaskEvent[],
  expected: Expectation,
  report: Report,
): void {
  if (expected.mode !== 'bsp') return;
  const ranges = new Map(
    recordsOf(processes, 'shard-taken').map((event) => [`${event.generation}/${event.shard}`, rangeOf(event)]),
  );
  for (const [where, group] of groupBy(
    masks,
    (mask) => `${ranges.get(`${mask.generation}/${mask.shard}`)} at step ${mask.step}`,
  )) {
    const digests = new Set(group.map(({ digest, dead, maskEpoch }) => `${digest} ${dead} ${maskEpoch}`));
    if (digests.size > 1) report(6, `shard ${where} has ${digests.size} different masks`);
  }
  const decided = recordsOf(processes, 'commit-decided');
  for (const [where, group] of groupBy(decided, ({ step, generation }) => `step ${step} in generation ${generation}`)) {
    const digests = new Set(group.map(({ digest, maskEpoch }) => `${digest} ${maskEpoch}`));
    if (digests.size > 1) report(3, `${digests.size} different mask commits were decided for ${where}`);
  }
}

/** Along the timeline every update step that was passed has its epoch, on every shard and in ascending order. */
function checkTimeline(
  masks: readonly MaskEvent[],
  timeline: readonly Era[],
  expected: Expectation,
  report: Report,
): void {
  const found = new Map<number, number>();
  for (const { generation, after, until, from } of timeline) {
    const last = until === Infinity ? (expected.succeeded ? expected.steps : 0) : until;
    for (const step of expected.updateSteps) {
      if (step > last || step < after || (step === after && from !== null)) continue;
      const here = masks.filter((mask) => mask.generation === generation && mask.step === step);
      const shards = new Set(here.map(({ shard }) => shard));
      if (shards.size < expected.servers) {
        report(
          4,
          `update step ${step} in generation ${generation}: only ${shards.size} of ${expected.servers} shards have a new mask`,
        );
      }
      for (const { maskEpoch } of here) found.set(step, maskEpoch);
    }
  }
  const epochs = [...found].sort(([a], [b]) => a - b).map(([, epoch]) => epoch);
  epochs.forEach((epoch, i) => {
    if (epoch !== i + 1) report(3, `update ${i + 1} of the timeline has mask epoch ${epoch}`);
  });
}

function rangeOf({ start, end }: ShardTakenEvent): string {
  return `[${start}, ${end})`;
}

export function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const of = key(item);
    const group = groups.get(of);
    if (group === undefined) groups.set(of, [item]);
    else group.push(item);
  }
  return groups;
}
