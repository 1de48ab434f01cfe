import type { CheckpointEvent, ProcessHistory, ShardWrittenEvent } from '../../shared/telemetry/history-records.ts';
import { groupBy } from './check-masks.ts';
import { type Era, type Expectation, recordsOf, type Report } from './history-timeline.ts';

/** Checkpoints are made of all shards of one generation at one clock and epoch, and timelines start from such. */
export function checkCheckpoints(
  processes: readonly ProcessHistory[],
  timeline: readonly Era[],
  expected: Expectation,
  report: Report,
): void {
  const written = recordsOf(processes, 'shard-written');
  const checkpoints = recordsOf(processes, 'checkpoint');
  for (const checkpoint of checkpoints) checkWhole(checkpoint, written, expected, report);
  const offered = new Set(checkpoints.map(({ folder }) => folder));
  for (const { generation, from } of timeline) {
    if (from !== null && !offered.has(from.checkpoint)) {
      report('checkpoint', `generation ${generation} starts from ${from.checkpoint}, which was never whole`);
    }
  }
  checkMasksInFiles(processes, written, report);
  if (expected.mode === 'bsp') checkRepeated(written, report);
  checkSchedulers(processes, report);
  if (
    expected.succeeded &&
    !checkpoints.some(({ phase, clock }) => phase === 'committed' && clock === expected.steps)
  ) {
    report('checkpoint', `no checkpoint of the last step ${expected.steps} was committed`);
  }
}

function checkWhole(
  { folder, generation, clock, maskEpoch, shards }: CheckpointEvent,
  written: readonly ShardWrittenEvent[],
  expected: Expectation,
  report: Report,
): void {
  if (shards.length !== expected.servers)
    report('checkpoint', `${folder} has ${shards.length} shards of ${expected.servers}`);
  let next = 0;
  for (const { start, end, sha256 } of shards) {
    if (start !== next) report('checkpoint', `${folder} has a shard from ${start} where ${next} should follow`);
    next = end;
    const part = written.find(
      (each) => each.sha256 === sha256 && each.generation === generation && each.start === start,
    );
    if (part === undefined)
      report('checkpoint', `${folder}: nobody wrote its shard [${start}, ${end}) in generation ${generation}`);
    else if (part.clock !== clock || part.maskEpoch !== maskEpoch || part.end !== end) {
      report(
        'checkpoint',
        `${folder}: its shard [${start}, ${end}) is of clock ${part.clock} and mask epoch ${part.maskEpoch}`,
      );
    }
  }
}

/** The mask in a shard file is the one in force at its clock. */
function checkMasksInFiles(
  processes: readonly ProcessHistory[],
  written: readonly ShardWrittenEvent[],
  report: Report,
): void {
  const masks = recordsOf(processes, 'mask');
  for (const { shard, generation, clock, maskEpoch, maskDigest } of written) {
    const mask = masks.find(
      (each) => each.shard === shard && each.generation === generation && each.maskEpoch === maskEpoch,
    );
    if (mask === undefined) continue;
    if (mask.digest !== maskDigest || mask.step > clock) {
      report(3, `shard ${shard} wrote clock ${clock} with another mask than that of epoch ${maskEpoch}`);
    }
  }
}

/** In bsp a shard written again after a rollback has the same bytes. */
function checkRepeated(written: readonly ShardWrittenEvent[], report: Report): void {
  for (const [where, group] of groupBy(written, ({ clock, start, end }) => `[${start}, ${end}) at clock ${clock}`)) {
    if (new Set(group.map(({ sha256 }) => sha256)).size > 1)
      report(6, `shard ${where} was written with different bytes`);
  }
}

/** A scheduler commits nothing of a generation once it has taken a newer one, and takes ascending ones. */
function checkSchedulers(processes: readonly ProcessHistory[], report: Report): void {
  for (const { role, pid, records } of processes) {
    if (role !== 'scheduler') continue;
    let inForce = 0;
    for (const record of records) {
      if (record.kind === 'generation') {
        if (record.generation < inForce)
          report(7, `the scheduler (process ${pid}) took generation ${record.generation} after ${inForce}`);
        inForce = record.generation;
      } else if (record.kind === 'checkpoint' && record.phase === 'committed' && record.generation < inForce) {
        report(7, `${record.folder} became the latest in generation ${inForce}`);
      } else if (record.kind === 'commit-decided' && record.generation < inForce) {
        report(7, `a mask commit of generation ${record.generation} was decided in ${inForce}`);
      }
    }
  }
}
