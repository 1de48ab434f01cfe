import assert from 'node:assert/strict';
import { parseAllDocuments } from 'yaml';
import { runSecret } from '../../../../deploy/launchers/kubernetes/companions.ts';
import { manifestsYaml, runObjects } from '../../../../deploy/launchers/kubernetes/manifests.ts';
import { certificateHosts, hostOf, objectName, runNames } from '../../../../deploy/launchers/kubernetes/names.ts';
import { type KubernetesObject, ownedBy } from '../../../../deploy/launchers/kubernetes/objects.ts';
import type { KubernetesOptions } from '../../../../deploy/launchers/kubernetes/options.ts';
import { runParts } from '../../../../deploy/launchers/kubernetes/submit.ts';
import type { LaunchPlan } from '../../../../deploy/launchers/launcher.ts';
import type { RunConfig } from '../../../../shared/config/types.ts';
import { jobSetSchemaAbsent, problemOf } from './schemas.ts';
import { configOf, optionsOf, planOf } from './support.ts';

type Json = Record<string, unknown>;
interface Job {
  name: string;
  template: {
    spec: Json & {
      template: { metadata: { labels: Json }; spec: Json & { containers: [Container]; volumes: Json[] } };
    };
  };
}
interface Container {
  args: string[];
  command: string[];
  env: { name: string; value?: string }[];
  resources: Json;
  volumeMounts: { name: string; mountPath: string }[];
  [key: string]: unknown;
}

function partsOf(
  changes: { plan?: Partial<LaunchPlan>; options?: Partial<KubernetesOptions>; config?: RunConfig } = {},
): ReturnType<typeof runParts> {
  return runParts(planOf(changes.plan), changes.config ?? configOf(), optionsOf(changes.options), 'team');
}

function all(parts: ReturnType<typeof runParts>): KubernetesObject[] {
  const { claim, jobSet, companions } = runObjects(parts, true);
  return [claim, jobSet, ...companions, runSecret(parts.names, { token: 't' })];
}

function jobsOf(parts: ReturnType<typeof runParts>): Job[] {
  return (runObjects(parts, false).jobSet['spec'] as { replicatedJobs: Job[] }).replicatedJobs;
}

function podOf(parts: ReturnType<typeof runParts>, role: string): Job['template']['spec']['template']['spec'] {
  const job = jobsOf(parts).find(({ name }) => name === role);
  assert.ok(job);
  return job.template.spec.template.spec;
}

const insecure: RunConfig = { ...configOf(), security: { certificates: null, insecure: true } };
const withEtcd: RunConfig = {
  ...configOf(),
  coordination: {
    etcd: {
      endpoints: ['https://etcd.example:2379'],
      prefix: 'whittle',
      leaseSeconds: 10,
      deadlineSeconds: 60,
      certificates: { ca: '/e/ca.pem', certificate: '/e/c.pem', key: '/e/k.pem' },
    },
  },
};

describe('Kubernetes manifests against the official schemas', () => {
  const cases: Record<string, Parameters<typeof partsOf>[0]> = {
    'the default': {},
    'every option': {
      options: {
        gpus: 2,
        imagePullSecret: 'pull',
        serviceAccount: 'trainer',
        storageClass: 'nfs',
        dataClaim: 'data',
        etcd: 3,
        resources: {
          scheduler: { cpu: '1', memory: '1Gi' },
          server: { cpu: '2', memory: '8Gi' },
          worker: { cpu: '7500m', memory: '30Gi' },
        },
      },
      plan: { workers: 120, minWorkers: 2, resume: { folder: '/here/runs/mine/checkpoints/step-00000500-g1' } },
      config: configOf('model: lenet-300-100\ndata: { source: fashion-mnist, batchSize: 100 }\n'),
    },
    'one worker, no certificates': { plan: { workers: 1, servers: 1 }, config: insecure, options: { etcd: 1 } },
    'an etcd that is given': { config: withEtcd, options: { certsSecret: 'ours' } },
  };
  for (const [name, changes] of Object.entries(cases))
    it(`${name}: every object is valid, owned or not`, function () {
      for (const object of all(partsOf(changes))) {
        if (object.kind === 'JobSet' && jobSetSchemaAbsent !== null) {
          console.warn(jobSetSchemaAbsent);
          continue;
        }
        assert.equal(problemOf(object), null, `${object.kind} ${object.metadata.name}`);
        const owner = {
          apiVersion: 'jobset.x-k8s.io/v1alpha2',
          kind: 'JobSet',
          name: 'mine',
          uid: 'u',
          controller: false,
        };
        assert.equal(problemOf(ownedBy(object, owner)), null);
      }
    });

  it('refuses what is wrong, so that the checks above mean something', function () {
    if (jobSetSchemaAbsent !== null) this.skip();
    const { jobSet, claim } = runObjects(partsOf(), true);
    const spec = jobSet['spec'] as Json;
    assert.match(problemOf({ ...jobSet, spec: { ...spec, failurPolicy: {} } }) ?? '', /additional/);
    assert.match(
      problemOf({ ...jobSet, spec: { ...spec, startupPolicy: { startupPolicyOrder: 'Any' } } }) ?? '',
      /allowed values/,
    );
    const misspelt = structuredClone(jobSet) as unknown as { spec: { replicatedJobs: Job[] } } & KubernetesObject;
    misspelt.spec.replicatedJobs[1]!.template.spec.template.spec.containers[0]['readynessProbe'] = {};
    assert.match(problemOf(misspelt) ?? '', /readynessProbe/);
    assert.notEqual(problemOf({ ...claim, spec: { accessModes: 'ReadWriteMany' } }), null);
  });
});

describe('the JobSet of a run', () => {
  it('starts scheduler, servers and workers in this order, and ends as the scheduler does', () => {
    const spec = runObjects(partsOf(), false).jobSet['spec'] as Json;
    assert.deepEqual(
      (spec['replicatedJobs'] as Job[]).map(({ name }) => name),
      ['scheduler', 'server', 'worker'],
    );
    assert.deepEqual(spec['startupPolicy'], { startupPolicyOrder: 'InOrder' });
    assert.deepEqual(spec['successPolicy'], { operator: 'All', targetReplicatedJobs: ['scheduler'] });
    assert.deepEqual(spec['failurePolicy'], { maxRestarts: 0 });
    assert.equal(spec['suspend'], false);
  });

  it('replaces a lost pod alone, under its index, as often as --max-restarts says', () => {
    const jobs = jobsOf(partsOf());
    assert.deepEqual(
      jobs.map(({ template: { spec } }) => [
        spec['completionMode'],
        spec['completions'],
        spec['parallelism'],
        spec['backoffLimitPerIndex'],
      ]),
      [
        ['Indexed', 1, 1, 4],
        ['Indexed', 2, 2, 4],
        ['Indexed', 3, 3, 4],
      ],
    );
    for (const { template } of jobs) {
      assert.equal(template.spec['podReplacementPolicy'], 'Failed');
      // A budget per index, and a failure policy, are allowed with this restart policy only.
      assert.equal(template.spec.template.spec['restartPolicy'], 'Never');
      const { rules } = template.spec['podFailurePolicy'] as { rules: Json[] };
      assert.equal(rules[0]?.['action'], 'Ignore');
    }
    const failing = jobs.map(({ template }) => JSON.stringify(template.spec['podFailurePolicy']).includes('FailJob'));
    assert.deepEqual(failing, [true, false, false]);
  });

  it('gives pods names that Kubernetes and certificates allow', () => {
    for (const id of ['mine', 'LeNet_300.100-20260801-120000-ab12', '7', '_'.repeat(128), 'a'.repeat(39), 'x--']) {
      const name = objectName(id);
      assert.match(name, /^[a-z]([a-z0-9-]*[a-z0-9])?$/, id);
      assert.ok(`${name}-scheduler-0-999-abcde`.length <= 63, id);
    }
    assert.notEqual(objectName('Mine'), objectName('mINE'));
    assert.equal(objectName('mine'), 'mine');
    const names = runNames('mine', 'team');
    const host = hostOf(names, 'worker', 11);
    assert.equal(host, 'mine-worker-0-11.mine.team.svc');
    assert.deepEqual(certificateHosts(names, true), ['*.mine.team.svc', '*.mine-etcd.team.svc']);
  });

  it('tells each role where it is and whom to ask', () => {
    const { args, command } = podOf(partsOf(), 'worker').containers[0];
    assert.deepEqual(command.slice(0, 3), ['tini', '--', 'node']);
    assert.deepEqual(args, [
      ...['worker', '--scheduler', 'mine-scheduler-0-0.mine.team.svc:7000', '--run-dir', '/runs/mine'],
      ...['--host', '0.0.0.0', '--port', '7000', '--health-port', '7001', '--certs', '/etc/whittle/secrets'],
    ]);
    assert.ok(!podOf(partsOf(), 'scheduler').containers[0].args.includes('--scheduler'));
    assert.ok(podOf(partsOf({ config: insecure }), 'server').containers[0].args.includes('--insecure'));
  });

  it('probes the plain health port of every role by gRPC', () => {
    for (const role of ['scheduler', 'server', 'worker'])
      for (const probe of ['startupProbe', 'readinessProbe', 'livenessProbe'])
        assert.deepEqual((podOf(partsOf(), role).containers[0][probe] as Json)['grpc'], { port: 7001 });
  });

  it('asks for GPUs for workers only', () => {
    const parts = partsOf({ options: { gpus: 2 } });
    const limits = (role: string): Json => podOf(parts, role).containers[0].resources['limits'] as Json;
    assert.equal(limits('worker')['nvidia.com/gpu'], '2');
    assert.equal(limits('server')['nvidia.com/gpu'], undefined);
    assert.equal(podOf(parts, 'worker')['tolerations'] !== undefined, true);
  });

  it('continues from a checkpoint by its folder on the volume', () => {
    const env = (resume: LaunchPlan['resume']): unknown =>
      podOf(partsOf({ plan: { resume } }), 'scheduler').containers[0].env.find(({ name }) => name === 'WHITTLE_RESUME')
        ?.value;
    assert.equal(env(null), undefined);
    assert.equal(env({ folder: null }), 'newest');
    assert.equal(env({ folder: '/x/checkpoints/step-00000500-g1' }), '/runs/mine/checkpoints/step-00000500-g1');
  });

  it('keeps secrets from other users of the pod, and runs without root', () => {
    const pod = podOf(partsOf(), 'server');
    const secrets = pod.volumes.find(({ name }) => name === 'secrets')?.['projected'] as Json;
    assert.equal((secrets['defaultMode'] as number) & 0o007, 0);
    assert.equal((pod['securityContext'] as Json)['runAsNonRoot'], true);
    assert.equal(
      podOf(partsOf({ config: insecure }), 'server').volumes.some(({ name }) => name === 'secrets'),
      false,
    );
  });
});

describe('objects beside the JobSet', () => {
  const find = (parts: ReturnType<typeof runParts>, kind: string): Json[] =>
    runObjects(parts, true)
      .companions.filter((each) => each.kind === kind)
      .map((each) => each['spec'] as Json);

  it('budgets: scheduler and servers stay, workers go one by one', () => {
    const budgets = find(partsOf({ plan: { servers: 2, workers: 3 } }), 'PodDisruptionBudget');
    assert.deepEqual(
      budgets.map(({ minAvailable }) => minAvailable),
      [3, 2],
    );
    assert.deepEqual(find(partsOf({ plan: { workers: 1 } }), 'PodDisruptionBudget').length, 1);
    // Whoever selects by these labels must find pods that have them.
    for (const { selector } of budgets) {
      const { matchLabels } = selector as { matchLabels: Json };
      const labels = jobsOf(partsOf())[0]?.template.spec.template.metadata.labels ?? {};
      for (const [key, value] of Object.entries(matchLabels)) assert.equal(labels[key], value);
    }
  });

  it('an etcd of three members, with the certificates of the run, where the run file then points', () => {
    const parts = partsOf({ options: { etcd: 3 } });
    const [set] = find(parts, 'StatefulSet');
    const { command } = (set?.['template'] as { spec: { containers: [{ command: string[] }] } }).spec.containers[0];
    assert.ok(command.includes('--client-cert-auth'));
    assert.ok(
      command.some((flag) =>
        flag.startsWith('--initial-cluster=mine-etcd-0=https://mine-etcd-0.mine-etcd.team.svc:2380,'),
      ),
    );
    assert.match(parts.files.entries[0]?.text ?? '', /https:\/\/mine-etcd-2\.mine-etcd\.team\.svc:2379/);
    const plain = partsOf({ options: { etcd: 1 }, config: insecure });
    assert.match(plain.files.entries[0]?.text ?? '', /http:\/\/mine-etcd-0\.mine-etcd\.team\.svc:2379/);
    assert.throws(
      () => partsOf({ options: { etcd: 1 }, config: withEtcd }),
      /names an etcd, https:\/\/etcd\.example:2379/,
    );
  });

  it("a given etcd's certificates go along as secrets, under paths of the pods", () => {
    const parts = partsOf({ config: withEtcd });
    assert.deepEqual(
      parts.files.etcdSecrets.map(({ key, file }) => [key, file]),
      [
        ['etcd-ca.pem', '/e/ca.pem'],
        ['etcd-certificate.pem', '/e/c.pem'],
        ['etcd-key.pem', '/e/k.pem'],
      ],
    );
    assert.match(parts.files.entries[0]?.text ?? '', /\/etc\/whittle\/secrets\/etcd-ca\.pem/);
  });
});

describe('--dry-run on Kubernetes', () => {
  it('prints every object as a document of its own, and no secret', () => {
    const text = manifestsYaml(partsOf({ options: { etcd: 3 } }));
    const objects = parseAllDocuments(text).map((document) => document.toJS() as KubernetesObject);
    assert.deepEqual(
      objects.map(({ kind }) => kind),
      [
        'PersistentVolumeClaim',
        'ConfigMap',
        'PodDisruptionBudget',
        'PodDisruptionBudget',
        'NetworkPolicy',
        'Service',
        'StatefulSet',
        'JobSet',
      ],
    );
    for (const object of objects) assert.equal(problemOf(object), null, object.kind);
    assert.doesNotMatch(text, /&a1|\*a1/, 'kubectl takes anchors, people do not');
    assert.match(text, /kubectl create secret generic mine-secrets --namespace team --from-file=DIR/);
  });
});
