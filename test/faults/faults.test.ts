import assert from 'node:assert/strict';
import { smallRunFile, withFolder } from '../cluster/support.ts';
import { describePlan, runWithFaults } from './run-plan.ts';

const DOCUMENT = smallRunFile({ steps: 300, every: 60 });
/** Of a run that takes five seconds undisturbed. */
const DEADLINE_MS = 120_000;

/** One fault of each kind of role in each window; the whole suite is `npm run faults`. */
const SCRIPTS: readonly (readonly string[])[] = [
  ['at failpoint push.half-sent step 70 kill worker[0]', 'at failpoint commit.sent-to-some hit 3 kill scheduler'],
  ['at failpoint step.applied step 100 kill server[1]', 'at failpoint rollback.restored kill server[0]'],
  ['at failpoint checkpoint.manifest-written hit 3 kill scheduler', 'at failpoint hold.reached hit 5 kill server[0]'],
  [
    'at step 50 pause worker[1] for 1s',
    'at failpoint checkpoint.shard-unrenamed hit 2 pause server[1] for 1s',
    'at step 150 partition worker[0] for 1s',
  ],
];

describe('runs with faults', function () {
  this.timeout(2 * DEADLINE_MS);
  let expected: readonly (string | null)[] = [];

  before(() =>
    withFolder(async (folder) => {
      const run = await runWithFaults({
        folder,
        runId: 'run',
        document: DOCUMENT,
        faults: [],
        deadlineMilliseconds: DEADLINE_MS,
      });
      assert.ok(run.ended, JSON.stringify(run.result?.failure));
      assert.deepEqual(run.violations, []);
      expected = run.digests;
    }),
  );

  for (const faults of SCRIPTS) {
    it(`end by themselves with the digests of the undisturbed run: ${describePlan(faults)}`, () =>
      withFolder(async (folder) => {
        const run = await runWithFaults({
          folder,
          runId: 'run',
          document: DOCUMENT,
          faults,
          deadlineMilliseconds: DEADLINE_MS,
        });
        assert.ok(run.ended, JSON.stringify(run.result?.failure));
        assert.deepEqual([...run.injected].sort(), [...faults].sort(), 'all faults were made');
        assert.deepEqual(run.violations, []);
        assert.deepEqual(run.digests, expected);
      }));
  }
});
