import { FAILPOINTS, type FailpointName, type Window } from '../../shared/telemetry/failpoints.ts';

/** One run of the fault suite. */
export interface FaultPlan {
  readonly index: number;
  readonly coordination: 'embedded' | 'etcd';
  /** Lines of its fault script. */
  readonly faults: readonly string[];
}

/** What every run of the suite is: its faults are placed by these. */
export const SHAPE = { steps: 300, servers: 2, workers: 2, updates: 5, checkpoints: 4 } as const;

/** A window is struck by each of these in turn; the first of a rollback needs a dead server. */
const STRIKES: readonly { readonly name: FailpointName; readonly by: 'step' | 'update' | 'checkpoint' | 'rollback' }[] =
  [
    { name: 'push.half-sent', by: 'step' },
    { name: 'step.applied', by: 'step' },
    { name: 'hold.reached', by: 'update' },
    { name: 'commit.sent-to-some', by: 'update' },
    { name: 'checkpoint.manifest-written', by: 'checkpoint' },
    { name: 'rollback.generation-taken', by: 'rollback' },
    { name: 'commit.decided', by: 'update' },
    { name: 'commit.applied', by: 'update' },
    { name: 'checkpoint.shard-unrenamed', by: 'checkpoint' },
    { name: 'rollback.restored', by: 'rollback' },
  ];

/**
 * Plans of so many runs, the same for the same seed. Three of four strike a window at a failpoint, each window in
 * turn, every second of them together with a fault of another role; the fourth has kills and pauses by step alone.
 */
export function generatePlans(
  runs: number,
  seed: number,
  coordinations: readonly FaultPlan['coordination'][],
): FaultPlan[] {
  const random = generator(seed);
  let strikes = 0;
  return Array.from({ length: runs }, (_, index) => {
    const coordination = coordinations[index % coordinations.length] ?? 'embedded';
    if (index % 4 === 3) return { index, coordination, faults: byStep(random, index) };
    const strike = STRIKES[strikes % STRIKES.length]!;
    const round = Math.floor(strikes / STRIKES.length);
    strikes += 1;
    const faults = struck(random, strike.name, strike.by, round);
    // Only beside a fault that does not depend on the order of deaths.
    if (index % 2 === 1 && strike.by !== 'rollback') faults.push(anyFault(random, FAILPOINTS[strike.name].role));
    return { index, coordination, faults };
  });
}

/** Failpoints of each window. */
export function windowsOf(plans: readonly FaultPlan[]): Record<Window, number> {
  const counts: Record<Window, number> = { push: 0, apply: 0, hold: 0, commit: 0, checkpoint: 0, rollback: 0 };
  for (const { faults } of plans) {
    for (const window of new Set(faults.flatMap((line) => windowOf(line) ?? []))) counts[window] += 1;
  }
  return counts;
}

/** The window that a line of a script strikes; null for one by step. */
export function windowOf(line: string): Window | null {
  const name = /^at failpoint (\S+)/.exec(line)?.[1];
  return name === undefined ? null : FAILPOINTS[name as FailpointName].window;
}

function struck(random: Random, name: FailpointName, by: (typeof STRIKES)[number]['by'], round: number): string[] {
  const { role } = FAILPOINTS[name];
  const target =
    role === 'scheduler' ? role : `${role}[${random.below(role === 'server' ? SHAPE.servers : SHAPE.workers)}]`;
  // Every third time the process stands still instead, long enough to be missed by others' waits.
  const action =
    round % 3 === 2 && by !== 'rollback' ? `pause ${target} for ${1 + random.below(3)}s` : `kill ${target}`;
  switch (by) {
    case 'step':
      return [`at failpoint ${name} step ${20 + random.below(SHAPE.steps - 40)} ${action}`];
    case 'update':
      return [`at failpoint ${name} hit ${1 + random.below(SHAPE.updates)} ${action}`];
    case 'checkpoint':
      // The first checkpoint is that of step 0.
      return [`at failpoint ${name} hit ${1 + random.below(SHAPE.checkpoints)} ${action}`];
    case 'rollback':
      return [
        `at failpoint step.applied step ${120 + random.below(SHAPE.steps - 140)} kill server[${random.below(SHAPE.servers)}]`,
        `at failpoint ${name} ${action}`,
      ];
  }
}

function byStep(random: Random, index: number): string[] {
  const faults = [anyFault(random)];
  if (index % 8 === 7) faults.push(anyFault(random));
  return faults;
}

/** Of any process but those of `except`. */
function anyFault(random: Random, except?: string): string {
  const all = ['scheduler', 'server[0]', 'server[1]', 'worker[0]', 'worker[1]'];
  const targets = all.filter((target) => except === undefined || !target.startsWith(except));
  const target = targets[random.below(targets.length)] ?? 'worker[0]';
  const step = 10 + random.below(SHAPE.steps - 30);
  return random.below(3) === 0
    ? `at step ${step} pause ${target} for ${1 + random.below(4)}s`
    : `at step ${step} kill ${target}`;
}

interface Random {
  /** A whole number from 0 to below `limit`. */
  below(limit: number): number;
}

/** mulberry32 (Tommy Ettinger, 2017): enough for plans. */
function generator(seed: number): Random {
  let state = seed >>> 0;
  return {
    below(limit) {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
    },
  };
}
