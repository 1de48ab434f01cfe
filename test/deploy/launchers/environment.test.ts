import assert from 'node:assert/strict';
import { readRoleEnvironment, requireRole } from '../../../deploy/launchers/environment.ts';

const tensorFlow = (type: string, index: number, change: object = {}): { TF_CONFIG: string } => ({
  TF_CONFIG: JSON.stringify({
    cluster: { chief: ['head:7000'], ps: ['a:1', 'b:2'], worker: ['c:3', 'd:4', 'e:5'], ...change },
    task: { type, index },
  }),
});
const dmlc = (role: string) => ({
  DMLC_ROLE: role,
  DMLC_PS_ROOT_URI: '10.0.0.1',
  DMLC_PS_ROOT_PORT: '9000',
  DMLC_NUM_SERVER: '2',
  DMLC_NUM_WORKER: '4',
});

describe('readRoleEnvironment', () => {
  it('takes TF_CONFIG: chief, ps and worker', () => {
    const place = readRoleEnvironment(tensorFlow('ps', 1));
    assert.deepEqual(place, {
      role: 'server',
      rank: 1,
      scheduler: 'head:7000',
      listen: { host: 'b', port: 2 },
      servers: 2,
      workers: 3,
    });
    assert.equal(readRoleEnvironment(tensorFlow('worker', 2)).role, 'worker');
    const chief = readRoleEnvironment(tensorFlow('chief', 0));
    assert.deepEqual([chief.role, chief.rank, chief.listen?.port], ['scheduler', 0, 7000]);
  });

  it('takes DMLC_*: the scheduler listens at the root, ranks are given by the scheduler', () => {
    assert.deepEqual(readRoleEnvironment(dmlc('worker')), {
      role: 'worker',
      rank: null,
      scheduler: '10.0.0.1:9000',
      listen: null,
      servers: 2,
      workers: 4,
    });
    assert.deepEqual(readRoleEnvironment(dmlc('scheduler')).listen, { host: '10.0.0.1', port: 9000 });
  });

  it('takes SLURM_PROCID by a layout only: scheduler, servers, workers', () => {
    const layout = { servers: 2, workers: 3 };
    const roles = Array.from({ length: 6 }, (_, task) => {
      const { role, rank } = readRoleEnvironment({ SLURM_PROCID: String(task), SLURM_NTASKS: '6' }, layout);
      return `${role}[${rank}]`;
    });
    assert.deepEqual(roles, ['scheduler[0]', 'server[0]', 'server[1]', 'worker[0]', 'worker[1]', 'worker[2]']);
    assert.equal(readRoleEnvironment({ SLURM_PROCID: '0' }).role, null);
    assert.throws(
      () => readRoleEnvironment({ SLURM_PROCID: '0', SLURM_NTASKS: '8' }, layout),
      /\[USAGE\] SLURM_NTASKS is 8, and --servers 2 --workers 3 with the scheduler are 6 tasks/,
    );
    assert.throws(() => readRoleEnvironment({ SLURM_PROCID: '6' }, layout), /SLURM_PROCID is 6, .* tasks 0 to 5/);
  });

  it('says nothing where the environment does', () => {
    assert.deepEqual(Object.values(readRoleEnvironment({ PATH: '/bin' })), [null, null, null, null, null, null]);
  });

  it('refuses contradictions by both names', () => {
    assert.throws(
      () => readRoleEnvironment({ ...tensorFlow('ps', 0), ...dmlc('worker') }),
      /\[USAGE\] TF_CONFIG says role server, and DMLC_ROLE says role worker/,
    );
    assert.throws(
      () => readRoleEnvironment({ ...tensorFlow('worker', 0), ...dmlc('worker') }),
      /TF_CONFIG says scheduler head:7000, and DMLC_ROLE says scheduler 10\.0\.0\.1:9000/,
    );
    assert.throws(
      () => readRoleEnvironment({ ...dmlc('server'), SLURM_PROCID: '4' }, { servers: 2, workers: 4 }),
      /DMLC_ROLE says role server, and SLURM_PROCID says role worker/,
    );
    assert.throws(
      () => requireRole(readRoleEnvironment(dmlc('server')), 'worker'),
      /this is `whittle worker`, and the environment .* says server/,
    );
  });

  it('refuses what is wrong, naming the variable and the value', () => {
    for (const [env, message] of [
      [{ TF_CONFIG: '{' }, /TF_CONFIG is no JSON/],
      [tensorFlow('evaluator', 0), /TF_CONFIG: task\.type is "evaluator"; Whittle knows chief/],
      [tensorFlow('worker', 3), /task\.index is 3, and cluster\.worker has 3 addresses/],
      [tensorFlow('ps', 0, { ps: ['a'] }), /TF_CONFIG: cluster\.ps\.0 must be host:port/],
      [{ DMLC_ROLE: 'chief' }, /DMLC_ROLE is "chief"/],
      [{ DMLC_ROLE: 'worker', DMLC_PS_ROOT_URI: 'x' }, /DMLC_PS_ROOT_URI and DMLC_PS_ROOT_PORT .* set both/],
      [{ ...dmlc('worker'), DMLC_NUM_WORKER: 'four' }, /DMLC_NUM_WORKER is "four"/],
    ] as const)
      assert.throws(() => readRoleEnvironment(env), message);
  });
});
