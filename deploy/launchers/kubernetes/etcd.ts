import type { V1ServiceSpec, V1StatefulSetSpec } from '@kubernetes/client-node';
import { posix } from 'node:path';
import { etcdDomainOf, labelsOf, PATHS } from './names.ts';
import type { KubernetesObject } from './objects.ts';
import type { RunParts } from './pod-template.ts';

const CLIENT = 2379;
const PEER = 2380;
const METRICS = 2381;
const DATA = '/var/lib/etcd';
/** User and group of the container; etcd's image names none, and this one owns nothing. */
const USER = 65_532;

/** An etcd beside the run: StatefulSet and headless Service. With certificates it takes and asks for the run's own. */
export function etcdObjects(parts: RunParts): KubernetesObject[] {
  const { names, options, secret } = parts;
  if (options.etcd === 0) return [];
  const metadata = { name: names.etcd, namespace: names.namespace, labels: labelsOf(names, 'etcd') };
  const selector = labelsOf(names, 'etcd');
  const service: V1ServiceSpec = {
    clusterIP: 'None',
    // Members find each other before they can be ready.
    publishNotReadyAddresses: true,
    selector,
    ports: [
      { name: 'client', port: CLIENT },
      { name: 'peer', port: PEER },
    ],
  };
  const set: V1StatefulSetSpec = {
    serviceName: names.etcd,
    replicas: options.etcd,
    podManagementPolicy: 'Parallel',
    selector: { matchLabels: selector },
    // A resumed run must find its generations again: a number that was used before would be taken for old.
    persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Retain' },
    volumeClaimTemplates: [
      {
        metadata: { name: 'data', labels: selector },
        spec: {
          accessModes: ['ReadWriteOnce'],
          resources: { requests: { storage: '1Gi' } },
        },
      },
    ],
    template: {
      metadata: { labels: selector },
      spec: {
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        securityContext: {
          runAsNonRoot: true,
          runAsUser: USER,
          runAsGroup: USER,
          fsGroup: USER,
          seccompProfile: { type: 'RuntimeDefault' },
        },
        containers: [
          {
            name: 'etcd',
            image: options.etcdImage,
            command: ['etcd', ...etcdFlags(parts)],
            env: [{ name: 'POD_NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
            ports: [
              { name: 'client', containerPort: CLIENT },
              { name: 'peer', containerPort: PEER },
              { name: 'metrics', containerPort: METRICS },
            ],
            resources: { requests: { cpu: '100m', memory: '256Mi' }, limits: { memory: '256Mi' } },
            // The metrics port speaks plain text, as the kubelet does, and gives nothing away.
            readinessProbe: { httpGet: { path: '/health', port: METRICS }, periodSeconds: 5, failureThreshold: 3 },
            livenessProbe: {
              httpGet: { path: '/health?serializable=true', port: METRICS },
              periodSeconds: 20,
              failureThreshold: 6,
              initialDelaySeconds: 30,
            },
            securityContext: {
              allowPrivilegeEscalation: false,
              readOnlyRootFilesystem: true,
              capabilities: { drop: ['ALL'] },
            },
            volumeMounts: [
              { name: 'data', mountPath: DATA },
              ...(secret === null ? [] : [{ name: 'secrets', mountPath: PATHS.secrets, readOnly: true }]),
            ],
          },
        ],
        volumes: secret === null ? [] : [{ name: 'secrets', secret: { secretName: secret, defaultMode: 0o440 } }],
      },
    },
  };
  return [
    { apiVersion: 'v1', kind: 'Service', metadata, spec: service },
    { apiVersion: 'apps/v1', kind: 'StatefulSet', metadata, spec: set },
  ];
}

function etcdFlags({ names, options, secret }: RunParts): string[] {
  const scheme = secret === null ? 'http' : 'https';
  const hostOfMember = (name: string): string => `${name}.${etcdDomainOf(names)}`;
  const members = Array.from({ length: options.etcd }, (_, k) => `${names.etcd}-${k}`);
  const own = hostOfMember('$(POD_NAME)');
  const file = (name: string): string => posix.join(PATHS.secrets, name);
  return [
    '--name=$(POD_NAME)',
    `--data-dir=${DATA}/member`,
    `--listen-client-urls=${scheme}://0.0.0.0:${CLIENT}`,
    `--advertise-client-urls=${scheme}://${own}:${CLIENT}`,
    `--listen-peer-urls=${scheme}://0.0.0.0:${PEER}`,
    `--initial-advertise-peer-urls=${scheme}://${own}:${PEER}`,
    `--initial-cluster=${members.map((name) => `${name}=${scheme}://${hostOfMember(name)}:${PEER}`).join(',')}`,
    `--initial-cluster-token=${names.etcd}`,
    '--initial-cluster-state=new',
    `--listen-metrics-urls=http://0.0.0.0:${METRICS}`,
    '--auto-compaction-mode=periodic',
    '--auto-compaction-retention=1h',
    ...(secret === null
      ? []
      : [
          `--cert-file=${file('cert.pem')}`,
          `--key-file=${file('key.pem')}`,
          `--trusted-ca-file=${file('ca.pem')}`,
          '--client-cert-auth',
          `--peer-cert-file=${file('cert.pem')}`,
          `--peer-key-file=${file('key.pem')}`,
          `--peer-trusted-ca-file=${file('ca.pem')}`,
          '--peer-client-cert-auth',
        ]),
  ];
}
