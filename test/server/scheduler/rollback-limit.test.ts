import assert from 'node:assert/strict';
import { RollbackLimit } from '../../../server/scheduler/rollback-limit.ts';
import { WhittleError } from '../../../shared/errors.ts';

const cause = new WhittleError('ROLE_LOST', 'lost server[1]');

describe('RollbackLimit', () => {
  it('lets a run go back as often as it gets further in between', () => {
    const limit = new RollbackLimit();
    for (let step = 0; step < 20; step += 1) limit.count(step, cause);
  });

  it('ends a run that goes back for the sixth time without getting beyond the furthest step', () => {
    const limit = new RollbackLimit();
    for (const step of [7, 7, 3, 6, 7]) limit.count(step, cause);
    assert.throws(() => limit.count(5, cause), /ROLE_LOST.*went back 5 times.*the last time: lost server\[1\]/);
  });
});
