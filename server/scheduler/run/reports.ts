import type { Report__Output } from '../../../protos/generated/whittle/Report.ts';
import type { ShardEntry } from '../../../shared/checkpoint/manifest.ts';
import { type ErrorCode, WhittleError } from '../../../shared/errors.ts';
import type { ChunkResult } from '../evaluation.ts';
import type { Member } from '../members.ts';
import type { MaskUpdates } from './mask-updates.ts';
import type { RunCheckpoints } from './run-checkpoints.ts';
import type { RunEnd } from './run-end.ts';
import type { ServerGroup } from './server-group.ts';
import type { StopCut } from './stop-cut.ts';
import type { Training } from './training.ts';

/** Whom reports of members go to. */
export interface ReportReceivers {
  readonly generation: number;
  readonly servers: Pick<ServerGroup, 'ready'>;
  readonly masks: Pick<MaskUpdates, 'hold'>;
  readonly training: Pick<Training, 'reported' | 'evaluated'>;
  readonly checkpoints: Pick<RunCheckpoints, 'shardWritten' | 'shardFailed'>;
  readonly stopCut: Pick<StopCut, 'refused'>;
  readonly end: Pick<RunEnd, 'suspect'>;
  readonly workerDescribed: (member: Member, json: string) => void;
  readonly workerLeaves: (member: Member) => void;
}

/** Passes one report on. What was said of an older generation is without effect. */
export function receive(member: Member, report: Report__Output, to: ReportReceivers): void {
  const { rank, role } = member;
  const isFresh = ({ generation }: { readonly generation: number }): boolean => generation === to.generation;
  if (report.modelDescription) {
    to.workerDescribed(member, report.modelDescription);
  } else if (report.serverReady && isFresh(report.serverReady)) {
    to.servers.ready(rank);
  } else if (report.hold && isFresh(report.hold)) {
    to.masks.hold(rank, report.hold.step);
  } else if (report.steps && isFresh(report.steps)) {
    to.training.reported(rank, report.steps.steps, report.steps.socket);
  } else if (report.shardWritten && isFresh(report.shardWritten)) {
    const { clock, maskEpoch, shard } = report.shardWritten;
    to.checkpoints.shardWritten(rank, clock, maskEpoch, JSON.parse(shard) as ShardEntry);
  } else if (report.checkpointFailed && isFresh(report.checkpointFailed)) {
    const { clock, code, message } = report.checkpointFailed;
    to.checkpoints.shardFailed(clock, new WhittleError(code as ErrorCode, `server[${rank}]: ${message}`));
  } else if (report.cutRefused && isFresh(report.cutRefused)) {
    to.stopCut.refused(report.cutRefused.clock);
  } else if (report.evaluation && isFresh(report.evaluation)) {
    to.training.evaluated(report.evaluation satisfies ChunkResult);
  } else if (report.leaving && role === 'worker') {
    to.workerLeaves(member);
  } else if (report.failure) {
    const { code, message, stack, step, data } = report.failure;
    const parsed = JSON.parse(data || '{}') as Record<string, unknown>;
    to.end.suspect({ role, rank, stack, step }, new WhittleError(code as ErrorCode, message, { data: parsed }));
  }
}
