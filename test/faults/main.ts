import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Window } from '../../shared/telemetry/failpoints.ts';
import { startEtcd } from './etcd.ts';
import { type FaultPlan, generatePlans, windowOf, windowsOf } from './generator.ts';
import { describePlan, runWithFaults, suiteDocument } from './run-plan.ts';

/**
 * The fault suite: `npm run faults -- --runs 60 --seed 1 --json`. Progress on stderr; last on stdout one line of
 * JSON. Exit code 0 where every run ended with the digests of the undisturbed run and no invariant was broken.
 */
const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    /** Only the run of this index, to see a failure again. */
    only: { type: 'string' },
    coordination: { type: 'string', default: 'both' },
    json: { type: 'boolean', default: false },
  },
});

/** A run of the suite takes half a minute; recoveries and pauses are within this. */
const RUN_DEADLINE_MS = 300_000;

const coordinations: FaultPlan['coordination'][] =
  values.coordination === 'both' ? ['embedded', 'etcd'] : [values.coordination === 'etcd' ? 'etcd' : 'embedded'];
const all = generatePlans(Number(values.runs), Number(values.seed), coordinations);
const plans = values.only === undefined ? all : all.filter(({ index }) => index === Number(values.only));
const hits: Record<Window, number> = { push: 0, apply: 0, hold: 0, commit: 0, checkpoint: 0, rollback: 0 };
const totals = { runs: 0, ended: 0, invariantsBroken: 0, digestMismatches: 0, maxPauseSeconds: 0 };
const folder = await mkdtemp(join(tmpdir(), 'whittle-faults-'));
const etcd = coordinations.includes('etcd') ? await startEtcd() : null;
let keep = false;

try {
  say(`${plans.length} runs in ${folder}; windows planned: ${JSON.stringify(windowsOf(plans))}`);
  const expected = await undisturbed();
  for (const plan of plans) await runOne(plan, expected);
} finally {
  await etcd?.stop();
  if (!keep) await rm(folder, { recursive: true, force: true });
}
const { maxPauseSeconds, ...counts } = totals;
const summary = { ...counts, maxPauseSeconds: Math.round(maxPauseSeconds * 10) / 10, hits };
process.stdout.write(`${JSON.stringify(summary, null, values.json ? undefined : 2)}\n`);
if (totals.ended < totals.runs || totals.invariantsBroken > 0 || totals.digestMismatches > 0) process.exitCode = 1;

/** Digests of the run without faults. */
async function undisturbed(): Promise<readonly (string | null)[]> {
  const run = await execute('undisturbed', 'embedded', []);
  if (!run.ended || run.violations.length > 0) {
    keep = true;
    throw new Error(`the run without faults: ${JSON.stringify(run.result?.failure ?? run.violations)}`);
  }
  say(`without faults: longest pause ${run.longestPauseSeconds.toFixed(1)} s`);
  return run.digests;
}

async function runOne(plan: FaultPlan, expected: readonly (string | null)[]): Promise<void> {
  const runId = `run-${plan.index}`;
  const run = await execute(runId, plan.coordination, plan.faults);
  const differs = run.ended && run.digests.join() !== expected.join();
  totals.runs += 1;
  if (run.ended) totals.ended += 1;
  totals.invariantsBroken += run.violations.length;
  if (differs) totals.digestMismatches += 1;
  totals.maxPauseSeconds = Math.max(totals.maxPauseSeconds, run.longestPauseSeconds);
  for (const window of new Set(run.injected.flatMap((line) => windowOf(line) ?? []))) hits[window] += 1;
  const isGood = run.ended && !differs && run.violations.length === 0;
  say(
    `${runId} (${plan.coordination}) ${describePlan(plan.faults)}: ${isGood ? 'good' : 'BAD'}, ${run.injected.length} of ${plan.faults.length} faults, longest pause ${run.longestPauseSeconds.toFixed(1)} s`,
  );
  if (isGood) {
    await rm(join(folder, runId), { recursive: true, force: true });
    return;
  }
  keep = true;
  const failure = run.result?.failure;
  if (!run.ended) say(`  not ended: ${run.result?.state ?? 'never started'} ${failure?.message ?? ''}`);
  if (differs) say(`  digests ${run.digests.join(' ')} instead of ${expected.join(' ')}`);
  for (const { invariant, message } of run.violations.slice(0, 10)) say(`  invariant ${invariant}: ${message}`);
  say(`  see ${join(folder, runId)}; again with --seed ${values.seed} --only ${plan.index}`);
}

async function execute(runId: string, coordination: FaultPlan['coordination'], faults: readonly string[]) {
  const isEtcd = coordination === 'etcd' && etcd !== null;
  const here = join(folder, runId);
  await mkdir(here, { recursive: true });
  return runWithFaults({
    folder: here,
    runId,
    document: { ...suiteDocument(), ...(isEtcd ? { coordination: { etcd: { endpoints: [etcd.endpoint] } } } : {}) },
    faults,
    // With etcd another scheduler waits to be elected.
    ...(isEtcd ? { standbys: 1 } : {}),
    deadlineMilliseconds: RUN_DEADLINE_MS,
  });
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
