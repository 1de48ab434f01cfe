import assert from 'node:assert/strict';
import { endingOf } from '../../../../server/scheduler/run/ending.ts';
import type { Manifest } from '../../../../shared/checkpoint/manifest.ts';

const manifest = (clock: number, generation = 2): Manifest => ({ clock, generation }) as Manifest;
const reached = { steps: 100, step: 100, generation: 2, manifest: manifest(100), isEvaluated: true, stopAt: null };

describe('endingOf', () => {
  it('ends a run when its last step is recorded, evaluated and durable, whatever generation wrote it', () => {
    assert.deepEqual(endingOf(reached), { state: 'SUCCEEDED', manifest: reached.manifest });
    assert.equal(endingOf({ ...reached, manifest: manifest(100, 1) })?.state, 'SUCCEEDED');
    for (const less of [{ step: 99 }, { isEvaluated: false }, { manifest: manifest(90) }, { manifest: null }])
      assert.equal(endingOf({ ...reached, ...less }), null);
  });

  it('stops a run at the checkpoint of its own cut, and at no other', () => {
    const stopping = { ...reached, step: 50, stopAt: 50 };
    assert.deepEqual(endingOf({ ...stopping, manifest: manifest(50) }), { state: 'STOPPED', manifest: manifest(50) });
    for (const other of [manifest(40), manifest(50, 1), manifest(60)])
      assert.equal(endingOf({ ...stopping, manifest: other }), null);
    assert.equal(endingOf({ ...stopping, manifest: manifest(50), stopAt: null }), null);
  });

  it('finishes a run that was asked to stop at its end', () => {
    assert.equal(endingOf({ ...reached, stopAt: 100 })?.state, 'SUCCEEDED');
  });
});
