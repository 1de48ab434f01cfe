import assert from 'node:assert/strict';
import { ETCD_MISSING, EtcdServers, hasEtcd } from '../shared/coordination/etcd-server.ts';
import { disturbed, STEPS, undisturbedDigests } from './disturbed.ts';
import { digestsOf } from './support.ts';

/** A real etcd elects: the scheduler that waits goes on where the leading one was lost. */
describe('standby schedulers', function () {
  this.timeout(300_000);
  let etcd: EtcdServers;
  let undisturbed: readonly string[];

  before(async function () {
    if (!hasEtcd) {
      console.log(`      ${ETCD_MISSING}`);
      return this.skip();
    }
    const quiet = undisturbedDigests();
    etcd = await EtcdServers.start(1);
    undisturbed = await quiet;
  });
  after(async () => {
    if (hasEtcd) await etcd.stop();
  });

  it('the one that waits takes over from a killed leader, with nothing started again and no step computed twice', async () => {
    const coordination = { etcd: { endpoints: etcd.endpoints, leaseSeconds: 3 } };
    const result = await disturbed({ coordination, more: ['--standbys', '1', '--max-restarts', '0'] }, (run) =>
      run.kill('scheduler', 0, 150),
    );
    assert.deepEqual(digestsOf(result), undisturbed);
    assert.equal(result.state, 'SUCCEEDED');
    assert.equal(result.stepsComputed, STEPS);
    assert.deepEqual(
      result.recoveries.map(({ cause, resumedFrom }) => [cause, resumedFrom]),
      [['the scheduler was lost', null]],
    );
  });
});
