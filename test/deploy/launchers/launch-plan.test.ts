import assert from 'node:assert/strict';
import { launchPlanOf } from '../../../deploy/launchers/run.ts';
import { engineConfig } from '../../fixtures/config.ts';

describe('launchPlanOf', () => {
  const etcd = { endpoints: ['http://etcd:2379'], prefix: 'whittle', leaseSeconds: 10, deadlineSeconds: 60 };
  const planOf = (coordination: 'embedded' | { etcd: typeof etcd }, standbys?: number) =>
    launchPlanOf(
      { ...engineConfig(), coordination },
      'mine',
      '/runs/mine',
      null,
      standbys === undefined ? {} : { standbys },
    );

  it('refuses standbys where nothing elects, with the cure', () => {
    assert.throws(
      () => planOf('embedded', 1),
      /\[USAGE\] --standbys 1 needs coordination by etcd; .*leave it out, or set coordination: \{etcd:/,
    );
    assert.equal(planOf('embedded', 0).standbys, 0);
    assert.equal(planOf('embedded').standbys, 0);
    assert.equal(planOf({ etcd }, 2).standbys, 2);
  });
});
