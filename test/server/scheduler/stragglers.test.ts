import assert from 'node:assert/strict';
import { moveOf } from '../../../server/scheduler/balance.ts';
import { Stragglers } from '../../../server/scheduler/stragglers.ts';
import type { CompletedStep } from '../../../server/scheduler/step-ledger.ts';

describe('moveOf', () => {
  it('gives one without slices some where its speed is not known and the others have more than they need', () => {
    const idle = { worker: 2, slices: [], perSlice: null };
    const busy = [
      { worker: 0, slices: [0, 1, 2], perSlice: 10 },
      { worker: 1, slices: [3, 4], perSlice: 10 },
    ];
    assert.deepEqual(moveOf([...busy, idle]), { from: 0, to: 2, slice: 2 });
    assert.equal(moveOf([...busy, { ...idle, perSlice: 100 }]), null, 'one that is known to be slow gets none');
  });

  it('takes one without slices to be as fast as the others, not as the slowest', () => {
    const loads = [
      { worker: 0, slices: [0], perSlice: 10 },
      { worker: 1, slices: [1], perSlice: 100 },
      { worker: 2, slices: [], perSlice: null },
    ];
    assert.deepEqual(moveOf(loads), { from: 1, to: 2, slice: 1 });
  });

  it('lets equals be, whether or not one is without slices', () => {
    const one = { slices: [0], perSlice: 10 };
    assert.equal(
      moveOf([
        { worker: 0, ...one },
        { worker: 1, slices: [], perSlice: null },
      ]),
      null,
    );
    assert.equal(
      moveOf([
        { worker: 0, ...one },
        { worker: 1, ...one },
      ]),
      null,
    );
    assert.equal(moveOf([]), null);
  });

  it('waits until the speed of all that compute is known', () => {
    const loads = [
      { worker: 0, slices: [0, 1, 2], perSlice: 10 },
      { worker: 1, slices: [3], perSlice: null },
      { worker: 2, slices: [], perSlice: null },
    ];
    assert.equal(moveOf(loads), null);
  });
});

describe('Stragglers', () => {
  const step = (number: number, workers: readonly number[], milliseconds: readonly number[]): CompletedStep => ({
    step: number,
    loss: 0,
    seconds: 0,
    bytesPushed: 0,
    bytesPulled: 0,
    bytesMasks: 0,
    sliceWorkers: workers,
    sliceMilliseconds: milliseconds,
  });

  it('tells quantiles of step time, and moves a slice of one that is five times slower', () => {
    const stragglers = new Stragglers();
    const assignment = new Map([
      [0, [0, 1]],
      [1, [2, 3]],
    ]);
    assert.equal(stragglers.timesOf(0), null);
    for (let i = 1; i < 20; i += 1) stragglers.add(step(i, [0, 0, 1, 1], [5, 10, 25, 50]));
    assert.equal(stragglers.advise(assignment), null, 'too little is known');
    stragglers.add(step(20, [0, 0, 1, 1], [5, 10, 25, 60]));
    assert.deepEqual(stragglers.timesOf(1), { median: 50, p90: 50 });
    assert.deepEqual(stragglers.advise(assignment), { from: 1, to: 0, slice: 3 });
    stragglers.moved({ from: 1, to: 0 }, 1);
    assert.equal(stragglers.advise(assignment), null, 'what was measured before says nothing now');
  });

  it('moves nothing among equals, and nothing where nothing was measured', () => {
    const stragglers = new Stragglers();
    for (let i = 1; i < 30; i += 1) stragglers.add(step(i, [0, 1], [10, 11]));
    assert.equal(
      stragglers.advise(
        new Map([
          [0, [0]],
          [1, [1]],
        ]),
      ),
      null,
    );
    for (let i = 1; i < 30; i += 1) new Stragglers().add(step(i, [0, 1], []));
    assert.equal(new Stragglers().advise(new Map([[0, [0]]])), null);
  });

  it('tries a worker that lost its last slice again after a while, and after twice that when it is still slow', () => {
    const stragglers = new Stragglers();
    const all = new Map([
      [0, [0, 1]],
      [1, [2]],
    ]);
    const without = new Map([
      [0, [0, 1, 2]],
      [1, []],
    ]);
    const train = (workers: readonly number[], milliseconds: readonly number[]): void => {
      for (let i = 1; i <= 25; i += 1) stragglers.add(step(i, workers, milliseconds));
    };
    const slow = (): void => {
      train([0, 0, 1], [10, 20, 100]);
      assert.deepEqual(stragglers.advise(all), { from: 1, to: 0, slice: 2 });
      stragglers.moved({ from: 1, to: 0 }, 0);
      // A step that was under way.
      stragglers.add(step(26, [0, 0, 1], [10, 20, 100]));
    };
    const looksUntilTried = (): number => {
      for (let looks = 1; looks < 100; looks += 1) {
        train([0, 0, 0], [10, 20, 30]);
        const advice = stragglers.advise(without);
        if (!advice) continue;
        assert.deepEqual(advice, { from: 0, to: 1, slice: 2 });
        stragglers.moved(advice, 2);
        return looks;
      }
      return Infinity;
    };
    const tries = [8, 16, 32, 64, 64].map(() => {
      slow();
      return looksUntilTried();
    });
    assert.deepEqual(tries, [8, 16, 32, 64, 64]);
    stragglers.forget(1);
    slow();
    assert.equal(looksUntilTried(), 8, 'one that came back is another');
  });
});
