import type { V1Container, V1PodTemplateSpec, V1Probe, V1Volume, V1VolumeMount } from '@kubernetes/client-node';
import { posix } from 'node:path';
import type { Role } from '../../../shared/telemetry/run-status.ts';
import type { RunFiles } from './files.ts';
import {
  ANNOTATIONS,
  CONTAINER,
  domainOf,
  HEALTH_PORT,
  hostOf,
  labelsOf,
  PATHS,
  ROLE_PORT,
  type RunNames,
} from './names.ts';
import type { KubernetesOptions } from './options.ts';

/** Everything the objects of a run are made from. */
export interface RunParts {
  readonly names: RunNames;
  readonly options: KubernetesOptions;
  readonly files: RunFiles;
  /** Differs at every launch and resume: a pod that comes later sees that it takes the place of another. */
  readonly launchId: string;
  /** A checkpoint folder of the pods' run directory, `newest`, or null for a new run. */
  readonly resume: string | null;
  readonly servers: number;
  readonly workers: number;
  readonly maxRestarts: number;
  /** Name of the Secret with certificates and token; null: the run is insecure. */
  readonly secret: string | null;
  /** True where the run's Secret also has a password of etcd's. */
  readonly etcdPassword: boolean;
}

/** What the Dockerfiles make: user `node` of the official image. */
const USER = 1000;
const MAIN = posix.join(PATHS.package, 'dist/deploy/launchers/kubernetes/pod-main.js');

export function podTemplate(parts: RunParts, role: Role): V1PodTemplateSpec {
  const { names, options } = parts;
  return {
    metadata: { labels: labelsOf(names, role), annotations: { [ANNOTATIONS.runId]: names.runId } },
    spec: {
      restartPolicy: 'Never',
      // A worker finishes its slice; the others are replaced, whatever they do.
      terminationGracePeriodSeconds: 30,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      ...(options.serviceAccount === null ? {} : { serviceAccountName: options.serviceAccount }),
      ...(options.imagePullSecret === null ? {} : { imagePullSecrets: [{ name: options.imagePullSecret }] }),
      securityContext: {
        runAsNonRoot: true,
        runAsUser: USER,
        runAsGroup: USER,
        fsGroup: USER,
        fsGroupChangePolicy: 'OnRootMismatch',
        seccompProfile: { type: 'RuntimeDefault' },
      },
      ...(role === 'worker' && options.gpus > 0
        ? { tolerations: [{ key: 'nvidia.com/gpu', operator: 'Exists', effect: 'NoSchedule' }] }
        : {}),
      // A node that fails should take one server with it, not all.
      ...(role === 'server'
        ? {
            topologySpreadConstraints: [
              {
                maxSkew: 1,
                topologyKey: 'kubernetes.io/hostname',
                whenUnsatisfiable: 'ScheduleAnyway',
                labelSelector: { matchLabels: labelsOf(names, role) },
              },
            ],
          }
        : {}),
      containers: [container(parts, role)],
      volumes: volumes(parts, role),
    },
  };
}

function container(parts: RunParts, role: Role): V1Container {
  const { options, names } = parts;
  const { cpu, memory } = options.resources[role];
  const gpus: Record<string, string> =
    role === 'worker' && options.gpus > 0 ? { 'nvidia.com/gpu': String(options.gpus) } : {};
  return {
    name: CONTAINER,
    image: options.image,
    command: ['tini', '--', 'node', MAIN],
    args: [role, ...roleArguments(parts, role)],
    workingDir: PATHS.package,
    env: [
      { name: 'WHITTLE_LAUNCH_ID', value: parts.launchId },
      { name: 'WHITTLE_POD_DOMAIN', value: domainOf(names) },
      ...(role === 'scheduler' && parts.resume !== null ? [{ name: 'WHITTLE_RESUME', value: parts.resume }] : []),
      // The root file system is read-only.
      { name: 'HOME', value: '/tmp' },
      ...Object.entries(parts.files.environment).map(([name, value]) => ({ name, value })),
      ...(parts.etcdPassword
        ? [
            {
              name: 'WHITTLE_ETCD_PASSWORD',
              valueFrom: { secretKeyRef: { name: names.secret, key: 'etcd-password' } },
            },
          ]
        : []),
    ],
    ports: [
      { name: 'rpc', containerPort: ROLE_PORT },
      { name: 'health', containerPort: HEALTH_PORT },
    ],
    resources: { requests: { cpu, memory, ...gpus }, limits: { memory, ...gpus } },
    ...probes(),
    terminationMessagePolicy: 'FallbackToLogsOnError',
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    volumeMounts: volumeMounts(parts, role),
  };
}

/** What follows the role's command; the pod adds its rank, its name, and how the scheduler begins. */
function roleArguments({ names, secret }: RunParts, role: Role): string[] {
  return [
    ...(role === 'scheduler' ? [] : ['--scheduler', `${hostOf(names, 'scheduler', 0)}:${ROLE_PORT}`]),
    ...['--run-dir', posix.join(PATHS.runs, names.runId)],
    ...['--host', '0.0.0.0', '--port', String(ROLE_PORT), '--health-port', String(HEALTH_PORT)],
    ...(secret === null ? ['--insecure'] : ['--certs', PATHS.secrets]),
  ];
}

/**
 * The kubelet's gRPC probes speak no TLS, so they ask the health port, which answers nothing else. Starting may take
 * long: images are large, and a resumed scheduler reads its checkpoint first.
 */
function probes(): Pick<V1Container, 'startupProbe' | 'readinessProbe' | 'livenessProbe'> {
  const probe = (periodSeconds: number, failureThreshold: number): V1Probe => ({
    grpc: { port: HEALTH_PORT },
    periodSeconds,
    timeoutSeconds: 5,
    failureThreshold,
  });
  return { startupProbe: probe(2, 300), readinessProbe: probe(5, 3), livenessProbe: probe(20, 6) };
}

function volumeMounts({ files, secret, options }: RunParts, role: Role): V1VolumeMount[] {
  return [
    { name: 'runs', mountPath: PATHS.runs },
    { name: 'files', mountPath: PATHS.files, readOnly: true },
    { name: 'tmp', mountPath: '/tmp' },
    ...(secret === null && files.etcdSecrets.length === 0
      ? []
      : [{ name: 'secrets', mountPath: PATHS.secrets, readOnly: true }]),
    ...(role === 'scheduler' ? [{ name: 'pod', mountPath: PATHS.pod, readOnly: true }] : []),
    ...(options.dataClaim === null || files.dataFolder === null || role !== 'worker'
      ? []
      : [{ name: 'data', mountPath: files.dataFolder, readOnly: true }]),
  ];
}

/** Octal: the key must not be readable by everybody, and the pod's group is its user's. */
const SECRET_MODE = 0o440;

function volumes({ names, files, secret, options }: RunParts, role: Role): V1Volume[] {
  const etcd = files.etcdSecrets.map(({ key }) => ({ key, path: key }));
  const secrets = [
    ...(secret === null ? [] : [{ secret: { name: secret, items: certificateItems } }]),
    ...(etcd.length === 0 ? [] : [{ secret: { name: names.secret, items: etcd } }]),
  ];
  return [
    { name: 'runs', persistentVolumeClaim: { claimName: options.claim } },
    {
      name: 'files',
      configMap: { name: names.files, items: files.entries.map(({ key, path }) => ({ key, path })) },
    },
    { name: 'tmp', emptyDir: {} },
    ...(secrets.length === 0 ? [] : [{ name: 'secrets', projected: { defaultMode: SECRET_MODE, sources: secrets } }]),
    // A change of a pod's annotation reaches its files at once, not at the kubelet's next round.
    ...(role === 'scheduler'
      ? [
          {
            name: 'pod',
            downwardAPI: {
              items: [{ path: 'stop', fieldRef: { fieldPath: `metadata.annotations['${ANNOTATIONS.stop}']` } }],
            },
          },
        ]
      : []),
    ...(options.dataClaim === null || files.dataFolder === null || role !== 'worker'
      ? []
      : [{ name: 'data', persistentVolumeClaim: { claimName: options.dataClaim, readOnly: true } }]),
  ];
}

export const CERTIFICATE_KEYS = ['ca.pem', 'cert.pem', 'key.pem', 'token'] as const;
const certificateItems = CERTIFICATE_KEYS.map((key) => ({ key, path: key }));
