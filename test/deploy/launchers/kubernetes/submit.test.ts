import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createKubernetesLauncher } from '../../../../deploy/launchers/kubernetes.ts';
import { kubernetesOptionsOf } from '../../../../deploy/launchers/kubernetes/options.ts';
import type { LaunchPlan } from '../../../../deploy/launchers/launcher.ts';
import { runConfigToYaml } from '../../../../shared/config/effective.ts';
import { ClusterDouble } from './cluster-double.ts';
import { configOf, optionsOf, planOf, temporaryFolder } from './support.ts';

describe('submitting a run to Kubernetes', function () {
  // The client of Kubernetes alone takes seconds to load from its sources on a busy machine.
  this.timeout(300_000);
  let cluster: ClusterDouble;
  let folder: ReturnType<typeof temporaryFolder>;
  let kubeconfig: string | undefined;
  let plan: LaunchPlan;

  beforeEach(async () => {
    folder = temporaryFolder();
    cluster = await ClusterDouble.start();
    kubeconfig = process.env['KUBECONFIG'];
    process.env['KUBECONFIG'] = cluster.writeKubeconfig(folder.path);
    plan = planOf({ runDirectory: join(folder.path, 'mine') });
    mkdirSync(plan.runDirectory);
    writeFileSync(join(plan.runDirectory, 'run.yaml'), runConfigToYaml(configOf()));
  });
  afterEach(async () => {
    await cluster.stop();
    if (kubeconfig === undefined) delete process.env['KUBECONFIG'];
    else process.env['KUBECONFIG'] = kubeconfig;
    folder.remove();
  });

  const start = (signal = new AbortController().signal, tell?: (line: string) => void) =>
    createKubernetesLauncher(optionsOf(), { times: { pollEvery: 10, stuck: 100 } }).start(plan, signal, tell);

  it('says how to install JobSet where the cluster has none', async () => {
    cluster.intercept = (_method, path) =>
      path.startsWith('/apis/jobset') ? { status: 404, body: { kind: 'Status', message: 'not found' } } : null;
    await assert.rejects(start(), /\[UNSUPPORTED\].*kubectl apply --server-side -f https:.*jobset/s);
  });

  it('says who refused what, and which permissions are needed', async () => {
    cluster.intercept = (method, path) =>
      method === 'POST' && path.endsWith('/secrets')
        ? { status: 403, body: { kind: 'Status', message: 'secrets is forbidden: User "me" cannot create' } }
        : null;
    await assert.rejects(
      start(),
      /\[USAGE\].*refused to create Secret mine-secrets.*User "me" cannot create.*role\.yaml/s,
    );
    // What was made before is gone, but for the claim of all runs.
    assert.deepEqual([...cluster.objects.keys()], ['PersistentVolumeClaim/whittle-runs']);
  });

  it('lets the JobSet loose only when all that it needs is there', async () => {
    let suspended: unknown[] = [];
    cluster.onChange = (_verb, { kind, spec }) => {
      if (kind !== 'JobSet') return;
      suspended = [...suspended, (spec as { suspend: boolean }).suspend, cluster.of('Secret').length];
    };
    const controller = new AbortController();
    await assert.rejects(
      start(controller.signal, (line) => {
        if (line.startsWith('submitted')) controller.abort();
      }),
      /\[INTERRUPTED\]/,
    );
    assert.deepEqual(suspended.slice(0, 4), [true, 0, false, 1]);
    // Interrupted before it ran: nothing is left of it.
    assert.deepEqual([...cluster.objects.keys()], ['PersistentVolumeClaim/whittle-runs']);
  });

  it('explains an image that cannot be pulled, gives up in time, and deletes the run', async () => {
    cluster.onChange = (verb, { kind }) => {
      if (kind !== 'JobSet' || verb !== 'patch') return;
      const waiting = { reason: 'ImagePullBackOff', message: 'Back-off pulling image' };
      cluster.put({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: {
          name: 'mine-scheduler-0-0-abcde',
          namespace: 'team',
          labels: {
            'app.kubernetes.io/name': 'whittle',
            'app.kubernetes.io/instance': 'mine',
            'app.kubernetes.io/component': 'scheduler',
          },
        },
        spec: { containers: [{ name: 'whittle', image: 'registry.example/whittle:1' }] },
        status: { phase: 'Pending', containerStatuses: [{ name: 'whittle', state: { waiting } }] },
      });
    };
    const told: string[] = [];
    await assert.rejects(
      start(undefined, (line) => told.push(line)),
      /\[ROLE_LOST\].*image registry\.example\/whittle:1 cannot be pulled/s,
    );
    assert.equal(told.filter((line) => line.includes('[ImagePullBackOff]')).length, 1, told.join('\n'));
    assert.equal(cluster.of('JobSet').length, 0);
  });

  it('refuses a run that is on the cluster and has not ended', async () => {
    const made = await createKubernetesLauncher(optionsOf()).detach?.(plan);
    assert.equal(made?.what, 'JobSet mine in namespace team');
    await assert.rejects(start(), /\[RUN_LOCKED\].*whittle stop mine/s);
    assert.equal(cluster.of('JobSet').length, 1);
  });

  it('has an earlier part of the run make way', async () => {
    const launcher = createKubernetesLauncher(optionsOf());
    await launcher.detach?.(plan);
    const before = cluster.get('JobSet', 'mine')?.metadata.uid;
    cluster.setStatus('JobSet', 'mine', { conditions: [{ type: 'Failed', status: 'True' }] });
    await launcher.detach?.({ ...plan, resume: { folder: null } });
    assert.notEqual(cluster.get('JobSet', 'mine')?.metadata.uid, before);
    assert.match(JSON.stringify(cluster.get('JobSet', 'mine')), /"WHITTLE_RESUME","value":"newest"/);
  });
});

describe('options of --on kubernetes', () => {
  const none = {
    image: 'a/b:1',
    namespace: undefined,
    context: undefined,
    claim: undefined,
    storageClass: undefined,
    storageSize: undefined,
    dataClaim: undefined,
    resources: [],
    gpus: undefined,
    imagePullSecret: undefined,
    serviceAccount: undefined,
    certsSecret: undefined,
    etcd: undefined,
    etcdImage: undefined,
    include: [],
  };
  it('names the option and the cure', () => {
    assert.throws(
      () => kubernetesOptionsOf({ ...none, image: undefined }),
      /--image is missing; build deploy\/docker\/Dockerfile/,
    );
    assert.throws(() => kubernetesOptionsOf({ ...none, namespace: 'Team' }), /--namespace "Team"/);
    assert.throws(() => kubernetesOptionsOf({ ...none, resources: ['worker=4'] }), /worker=4,16Gi/);
    assert.throws(() => kubernetesOptionsOf({ ...none, etcd: 2 }), /--etcd 2 survives no more than 1/);
    assert.throws(() => kubernetesOptionsOf({ ...none, storageSize: 'much' }), /--storage-size "much"/);
  });
  it('keeps the defaults of what was not given', () => {
    const options = kubernetesOptionsOf({ ...none, resources: ['worker=4,16Gi'], gpus: 1 });
    assert.deepEqual(
      options,
      optionsOf({ image: 'a/b:1', gpus: 1, resources: { ...options.resources, worker: { cpu: '4', memory: '16Gi' } } }),
    );
  });
});
