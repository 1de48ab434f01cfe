import type { MemberStatus } from '../../../shared/telemetry/run-status.ts';
import type { Member } from '../members.ts';
import type { StepTimes } from '../stragglers.ts';

/** What status tells of a member. `worker`: what it computes, and how long it takes for a step. */
export function memberStatus(
  member: Member,
  worker: { readonly slices: readonly number[]; readonly stepTimes: StepTimes | null },
): MemberStatus {
  const { role, rank, address, pid, host, clock, lastHeard, rssBytes } = member;
  return {
    role,
    rank,
    address,
    pid,
    host,
    clock,
    secondsSinceHeartbeat: (performance.now() - lastHeard) / 1000,
    slices: role === 'worker' ? worker.slices : [],
    rssBytes,
    stepMilliseconds: role === 'worker' ? worker.stepTimes : null,
  };
}
