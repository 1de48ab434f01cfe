import assert from 'node:assert/strict';
import type { Pod } from '../../../../deploy/launchers/kubernetes/api.ts';
import { podState } from '../../../../deploy/launchers/kubernetes/explain.ts';
import { isNews, parsePodEvent } from '../../../../deploy/launchers/kubernetes/pod-events.ts';
import { PodLog } from '../../../../deploy/launchers/kubernetes/pod-log.ts';
import type { ClusterApi, LogRequest } from '../../../../deploy/launchers/kubernetes/api.ts';
import type { RunStatus } from '../../../../shared/telemetry/run-status.ts';

function podOf(status: Pod['status'], role = 'worker'): Pod {
  return {
    metadata: {
      name: `mine-${role}-0-2-abcde`,
      labels: { 'app.kubernetes.io/component': role },
      annotations: { 'batch.kubernetes.io/job-completion-index': '2' },
    },
    spec: { containers: [{ name: 'whittle', image: 'reg/w:1', resources: { limits: { memory: '4Gi' } } }] },
    ...(status === undefined ? {} : { status }),
  };
}
const container = (state: object) => [
  { name: 'whittle', image: '', imageID: '', ready: false, restartCount: 0, state },
];
const problem = (status: Pod['status']) => podState(podOf(status))?.problem;

describe('what is wrong with a pod, in words', () => {
  it('knows role, rank, phase and readiness', () => {
    const state = podState(podOf({ phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] }));
    assert.deepEqual(
      [state?.role, state?.rank, state?.phase, state?.ready, state?.problem],
      ['worker', 2, 'Running', true, null],
    );
    assert.equal(podState(podOf({}, 'etcd')), null);
  });

  it('an image that cannot be pulled: which one, and what to check', () => {
    const waiting = { reason: 'ImagePullBackOff', message: 'Back-off pulling image "reg/w:1"' };
    const found = problem({ phase: 'Pending', containerStatuses: container({ waiting }) });
    assert.equal(found?.kind, 'stuck');
    assert.match(found?.message ?? '', /reg\/w:1 cannot be pulled.*--image-pull-secret/);
  });

  it('no node: the reason, with the option that asks for less', () => {
    const message = '0/3 nodes are available: 3 Insufficient nvidia.com/gpu.';
    const found = problem({
      phase: 'Pending',
      conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }],
    });
    assert.equal(found?.kind, 'waits');
    assert.match(found?.message ?? '', /Insufficient nvidia\.com\/gpu.*--gpus/);
  });

  it('a claim without a volume', () => {
    const message = 'pod has unbound immediate PersistentVolumeClaims';
    const conditions = [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }];
    assert.match(problem({ phase: 'Pending', conditions })?.message ?? '', /ReadWriteMany/);
  });

  it('out of memory: the limit, and the option that raises it', () => {
    const terminated = { reason: 'OOMKilled', exitCode: 137 };
    const found = problem({ phase: 'Failed', containerStatuses: container({ terminated }) });
    assert.deepEqual([found?.reason, found?.kind], ['OOMKilled', 'ended']);
    assert.match(found?.message ?? '', /limit 4Gi.*--resources worker=/);
  });

  it('a drained node, an eviction, an exit of its own', () => {
    const conditions = [
      { type: 'DisruptionTarget', status: 'True', reason: 'EvictionByEvictionAPI', message: 'Eviction API: evicting' },
    ];
    assert.match(problem({ phase: 'Failed', conditions })?.message ?? '', /had to leave its node/);
    assert.match(
      problem({ phase: 'Failed', reason: 'Evicted', message: 'low on ephemeral-storage' })?.message ?? '',
      /ephemeral-storage/,
    );
    const terminated = { reason: 'Error', exitCode: 70, message: 'one\nerror: [DISK] full\n' };
    assert.match(
      problem({ phase: 'Failed', containerStatuses: container({ terminated }) })?.message ?? '',
      /exit code 70: error: \[DISK\] full/,
    );
  });
});

describe('the log of a pod', () => {
  it('gives every line once, also where looks overlap and a fraction has lost its zeros', async () => {
    const asked: LogRequest[] = [];
    const answers = [
      '2026-08-01T12:00:00.12Z a\n2026-08-01T12:00:00.123Z b\n',
      '2026-08-01T12:00:00.12Z a\n2026-08-01T12:00:00.123Z b\n2026-08-01T12:00:00.123Z c\n2026-08-01T12:00:01Z d e\n',
      '2026-08-01T12:00:01Z d e\n',
    ];
    const api = {
      log: async (_pod: string, _container: string, request: LogRequest) => {
        asked.push(request);
        return answers[asked.length - 1] ?? '';
      },
    } as unknown as ClusterApi;
    const log = new PodLog(api, 'p', 5);
    const texts = async (): Promise<string[]> => (await log.read()).map(({ text }) => text);
    assert.deepEqual(await texts(), ['a', 'b']);
    assert.deepEqual(await texts(), ['c', 'd e']);
    assert.deepEqual(await texts(), []);
    assert.deepEqual(asked[0], { tailLines: 5 });
    assert.ok((asked[1]?.sinceSeconds ?? 0) >= 10);
  });

  it("tells events from a role's own lines", () => {
    assert.equal(parsePodEvent('{"event":"other"}'), null);
    assert.equal(parsePodEvent('{"level":"info","event":"status"}'), null);
    assert.equal(parsePodEvent('{"event":"status","status":{"step":1'), null);
    assert.equal(parsePodEvent('{"event":"listening","address":"a:1","generation":2}')?.event, 'listening');
  });

  it('prints a status when something happened, else every ten seconds', () => {
    const status = {
      state: 'RUNNING',
      activity: 'training',
      maskEpoch: 0,
      updatedAt: '2026-08-01T12:00:00.000Z',
    } as RunStatus;
    assert.equal(isNews(null, status), true);
    assert.equal(isNews(status, { ...status, step: 5, updatedAt: '2026-08-01T12:00:09.000Z' }), false);
    assert.equal(isNews(status, { ...status, updatedAt: '2026-08-01T12:00:10.000Z' }), true);
    assert.equal(isNews(status, { ...status, maskEpoch: 1 }), true);
  });
});
