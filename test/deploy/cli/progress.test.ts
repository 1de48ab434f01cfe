import assert from 'node:assert/strict';
import { describeEvents, Progress, statusLine } from '../../../deploy/cli/progress.ts';
import { statusOf } from '../launchers/fixtures/statuses.ts';

describe('statusLine', () => {
  it('says what is known and nothing else', () => {
    assert.equal(statusLine(statusOf()), 'step  412/5616  loss 0.1235');
    assert.equal(
      statusLine(
        statusOf({
          testAccuracy: 0.97854,
          evaluatedAt: 400,
          sparsity: 0.45,
          targetSparsity: 0.45,
          examplesPerSecond: 12_345.6,
          bytesPerStep: 1_234_567,
          secondsLeft: 83,
        }),
      ),
      'step  412/5616  loss 0.1235  accuracy 97.85 % at 400  sparsity 45.00 %  12346 examples/s  1.23 MB/step  1 min 23 s left',
    );
  });

  it('names the target only where the mask is not there', () => {
    assert.match(statusLine(statusOf({ sparsity: 0.4, targetSparsity: 0.5 })), /sparsity 40\.00 % \(target 50\.00 %\)/);
    const estimated = statusOf({ sparsity: 0.6, targetSparsity: 0.5, isTargetEstimated: true });
    assert.match(statusLine(estimated), /sparsity 60\.00 % \(target about 50\.00 %\)/);
  });
});

describe('describeEvents', () => {
  it('names mask updates, evaluations, checkpoints and roll-backs', () => {
    const before = statusOf({ step: 10 });
    const after = statusOf({
      step: 8,
      generation: 2,
      maskEpoch: 1,
      sparsity: 0.5,
      testAccuracy: 0.9,
      testLoss: 0.25,
      evaluatedAt: 8,
      lastCheckpoint: { step: 8, at: '' },
    });
    assert.deepEqual(describeEvents(before, after), [
      'generation 2: back to step 8',
      'mask 1: sparsity 50.00 %',
      'evaluated step 8: accuracy 90.00 %, loss 0.2500',
      'checkpoint of step 8',
    ]);
    assert.deepEqual(describeEvents(after, after), []);
  });
});

describe('Progress', () => {
  const recorder = (isTTY: boolean, columns?: number) => {
    const written: string[] = [];
    let time = 0;
    const progress = new Progress({ write: (text: string) => written.push(text), isTTY, columns }, { now: () => time });
    return { written, progress, at: (milliseconds: number) => (time = milliseconds) };
  };

  it('adds a line every two seconds where there is no terminal', () => {
    const { written, progress, at } = recorder(false);
    for (const [milliseconds, step] of [
      [0, 1],
      [500, 2],
      [1999, 3],
      [2000, 4],
      [4100, 4],
      [4200, 5],
    ] as const) {
      at(milliseconds);
      progress.update(statusOf({ step }));
    }
    assert.deepEqual(
      written.map((line) => /step +(\d+)/.exec(line)?.[1]),
      ['1', '4', '5'],
    );
  });

  it('adds a line at once for a mask update, and for what the run waits for', () => {
    const { written, progress } = recorder(false);
    const waiting = { state: 'PENDING', step: 0 } as const;
    progress.update(statusOf({ ...waiting, activity: 'waiting for 2 servers' }));
    progress.update(statusOf({ ...waiting, activity: 'waiting for 2 servers' }));
    progress.update(statusOf({ ...waiting, activity: 'waiting for 1 server' }));
    progress.update(statusOf({ step: 5, maskEpoch: 1, sparsity: 0.5, targetSparsity: 0.5 }));
    assert.deepEqual(written, [
      'waiting for 2 servers\n',
      'waiting for 1 server\n',
      'step    5/5616  loss 0.1235  sparsity 50.00 %  (mask 1: sparsity 50.00 %)\n',
    ]);
  });

  it('takes a terminal that does not tell its width for one of 80 columns', () => {
    const { written, progress } = recorder(true, 0);
    progress.update(statusOf({ step: 1, testAccuracy: 0.5, evaluatedAt: 1, sparsity: 0.5, examplesPerSecond: 1e9 }));
    assert.equal(written.join('').replace('\r\u001b[2K', '').length, 79);
  });

  it('redraws one line on a terminal, never wider than it, and keeps events above', () => {
    const { written, progress } = recorder(true, 20);
    progress.update(statusOf({ step: 1 }));
    progress.update(statusOf({ step: 2, lastCheckpoint: { step: 2, at: '' } }));
    progress.clear();
    progress.clear();
    assert.deepEqual(written, [
      '\r\u001b[2Kstep    1/5616  lo…',
      '\r\u001b[2K',
      'checkpoint of step 2\n',
      '\r\u001b[2Kstep    2/5616  lo…',
      '\r\u001b[2K',
    ]);
  });
});
