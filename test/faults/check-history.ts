import type { RunConfig } from '../../shared/config/types.ts';
import type { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { allUpdateSteps, matchedParameters, targetSparsityAt } from '../../shared/sparsity/rules.ts';
import type { ProcessHistory } from '../../shared/telemetry/history-records.ts';
import { checkCheckpoints } from './check-checkpoints.ts';
import { checkMasks } from './check-masks.ts';
import { checkAppliedOnce, checkServerProcesses } from './check-shards.ts';
import { type Expectation, recordsOf, survivingTimeline, type Violation } from './history-timeline.ts';

/** More of one kind say nothing new. */
const MAX_VIOLATIONS = 100;

/**
 * Checks the recorded history of a run against the design's invariants 1 to 8 and 10. Order is that within a
 * process; between processes only generations, steps and epochs order anything, never a clock on a wall.
 */
export function checkHistory(processes: readonly ProcessHistory[], expected: Expectation): Violation[] {
  const violations: Violation[] = [];
  const report = (invariant: Violation['invariant'], message: string): void => {
    if (violations.length < MAX_VIOLATIONS) violations.push({ invariant, message });
  };
  if (recordsOf(processes, 'generation').length === 0) {
    report(10, 'no scheduler wrote a history');
    return violations;
  }
  const timeline = survivingTimeline(processes, report);
  checkServerProcesses(processes, expected, report);
  checkAppliedOnce(processes, timeline, expected, report);
  checkMasks(processes, timeline, expected, report);
  checkCheckpoints(processes, timeline, expected, report);
  const ends = recordsOf(processes, 'ended');
  if (ends.length === 0) report(10, 'no scheduler ended the run');
  else if (expected.succeeded && !ends.some(({ state }) => state === 'SUCCEEDED')) {
    report(10, `the run ended ${ends.map(({ state }) => state).join(' and ')}`);
  }
  return violations;
}

/** What a run of this file must do. Rules must match different parameters. */
export function expectationOf(config: RunConfig, space: ParameterSpace, succeeded: boolean): Expectation {
  const matched = matchedParameters(config.sparsity, space).reduce((sum, { size }) => sum + size, 0);
  const { mode, staleness } = config.consistency;
  return {
    mode,
    staleness,
    servers: config.cluster.servers,
    slices: config.cluster.slices,
    batchSize: config.data.batchSize,
    steps: config.training.steps,
    updateSteps: allUpdateSteps(config.sparsity, config.training.steps),
    deadAt: (step) => Math.round(targetSparsityAt(config.sparsity, space, step) * matched),
    succeeded,
  };
}
