import assert from 'node:assert/strict';
import { parseFault, parseFaults, readFaultScript } from '../../../shared/config/faults.ts';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import { WhittleError } from '../../../shared/errors.ts';

const ROLES = { servers: 2, workers: 3 };

describe('fault scripts', () => {
  it('say when, what and whom', () => {
    const lines = [
      'at step 120 kill server[1]',
      'at step 200 pause worker[0] for 5s',
      'at step 50 partition worker[2] for 1.5s',
      'at failpoint commit.sent-to-some kill scheduler',
      'at failpoint hold.reached of server[0] hit 2 step 40 pause scheduler for 500ms',
    ];
    assert.deepEqual(parseFaults(lines, ROLES), [
      { trigger: { kind: 'step', step: 120 }, action: 'kill', target: { role: 'server', rank: 1 }, milliseconds: 0 },
      {
        trigger: { kind: 'step', step: 200 },
        action: 'pause',
        target: { role: 'worker', rank: 0 },
        milliseconds: 5000,
      },
      {
        trigger: { kind: 'step', step: 50 },
        action: 'partition',
        target: { role: 'worker', rank: 2 },
        milliseconds: 1500,
      },
      {
        trigger: { kind: 'failpoint', name: 'commit.sent-to-some', hit: 1, step: null, at: null },
        action: 'kill',
        target: { role: 'scheduler', rank: 0 },
        milliseconds: 0,
      },
      {
        trigger: { kind: 'failpoint', name: 'hold.reached', hit: 2, step: 40, at: { role: 'server', rank: 0 } },
        action: 'pause',
        target: { role: 'scheduler', rank: 0 },
        milliseconds: 500,
      },
    ]);
  });

  const bad: readonly [line: string, column: number, message: RegExp][] = [
    ['at step 120 kil server[1]', 13, /"kil" where kill or pause or partition should be/],
    ['at step soon kill server[1]', 9, /"soon" is not a step >= 0/],
    ['at step 1 kill server[2]', 16, /no server\[2\]: its servers are server\[0\] to server\[1\]/],
    ['at step 1 kill worker', 16, /which worker\? write worker\[0\]/],
    ['at step 1 kill scheduler[1]', 16, /one scheduler/],
    ['at step 1 pause worker[0]', 26, /ends where for should be/],
    ['at step 1 pause worker[0] for 5', 31, /"5" is no time/],
    ['at step 1 pause worker[0] for 2000m', 31, /not between/],
    ['at step 1 kill server[0] now', 26, /"now" is too much/],
    ['at failpoint hold.reache kill server[0]', 14, /did you mean hold\.reached\?/],
    ['at failpoint hold.reached of worker[0] kill server[0]', 30, /passed by a server, not by a worker/],
    ['at failpoint hold.reached hit 0 kill server[0]', 31, /not a count >= 1/],
    ['kill server[0]', 1, /"kill" where at should be/],
  ];
  for (const [line, column, message] of bad) {
    it(`say what is wrong and where: ${line}`, () => {
      const found = parseFault(line, ROLES);
      assert.ok('message' in found, JSON.stringify(found));
      assert.match(found.message, message);
      assert.equal(found.column, column);
    });
  }

  it('are lines of a file, with comments; all that is wrong is told with line and column', () => {
    assert.deepEqual(readFaultScript('# one\nat step 1 kill server[0] # now\n\n', 'f.txt', ROLES), [
      'at step 1 kill server[0]',
    ]);
    assert.throws(
      () => readFaultScript('at step 1 kill server[0]\n  at step 2 kill\nat stop 3 kill server[0]\n', 'f.txt', ROLES),
      (error) =>
        error instanceof WhittleError &&
        error.code === 'RUN_FILE' &&
        /f\.txt:2:17: .*\n(.*\n)+f\.txt:3:4: /.test(error.message),
    );
  });

  it('stand in a run file, where each line is checked against its roles', () => {
    const text = (fault: string): string =>
      `model: lenet-300-100\ndata: { source: mnist, batchSize: 8 }\ncluster: { servers: 2 }\ntraining: { steps: 9 }\nhistory: true\nfaults:\n  - ${fault}\n`;
    const { document } = parseRunFile(text('at step 1 kill server[1]'), 'run.yaml');
    assert.deepEqual([document.faults, document.history], [['at step 1 kill server[1]'], true]);
    assert.throws(
      () => parseRunFile(text('at step 1 kill server[2]'), 'run.yaml'),
      (error) =>
        error instanceof WhittleError &&
        /run\.yaml:7:5: faults\.0, column 16: the run has no server\[2\]/.test(error.message),
    );
  });
});
