import { createHash } from 'node:crypto';
import type { Role } from '../../../shared/telemetry/run-status.ts';

/** `kubectl get pods -l app.kubernetes.io/instance=NAME` shows the pods of a run. */
export const LABELS = {
  application: 'app.kubernetes.io/name',
  run: 'app.kubernetes.io/instance',
  role: 'app.kubernetes.io/component',
} as const;

export const ANNOTATIONS = {
  /** The run's id as the user knows it: labels and names allow less. */
  runId: 'whittle/run-id',
  /** Set on a scheduler's pod it asks the run to checkpoint and stop; its value is the reason. */
  stop: 'whittle/stop',
} as const;

/** Every role listens here, in its own pod; probes ask the health port, which speaks plain text. */
export const ROLE_PORT = 7000;
export const HEALTH_PORT = 7001;

/** The main container of every pod of a run. */
export const CONTAINER = 'whittle';

/** Where things lie in a pod. The run's files are below the package, so that its modules find their dependencies. */
export const PATHS = {
  package: '/opt/whittle',
  files: '/opt/whittle/run',
  runs: '/runs',
  secrets: '/etc/whittle/secrets',
  pod: '/etc/whittle/pod',
  data: '/data',
} as const;

/**
 * Longest name of a JobSet: a pod is called NAME-scheduler-0-NNN-xxxxx, of at most 63 characters, and its Service
 * needs a name that begins with a letter (RFC 1035).
 */
const LONGEST = 38;

/** The name of a run's JobSet and the stem of all its objects: the run's id where it can be one, else like it. */
export function objectName(runId: string): string {
  if (runId.length <= LONGEST && /^[a-z]([a-z0-9-]*[a-z0-9])?$/.test(runId)) return runId;
  const slug = runId.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  const stem = (/^[a-z]/.test(slug) ? slug : `run-${slug}`).slice(0, LONGEST - 7).replace(/-+$/, '');
  return `${stem}-${createHash('sha256').update(runId).digest('hex').slice(0, 6)}`;
}

export interface RunNames {
  readonly runId: string;
  readonly namespace: string;
  /** JobSet, headless Service (the JobSet's controller makes it) and NetworkPolicy. */
  readonly jobSet: string;
  readonly files: string;
  readonly secret: string;
  readonly etcd: string;
}

export function runNames(runId: string, namespace: string): RunNames {
  const jobSet = objectName(runId);
  return {
    runId,
    namespace,
    jobSet,
    files: `${jobSet}-files`,
    secret: `${jobSet}-secrets`,
    etcd: `${jobSet}-etcd`,
  };
}

/**
 * What a role's certificate is checked against. Three labels and more, since Node takes no wildcard above two; ending in
 * `svc`, since clusters differ in what comes after and the search list of a pod adds it.
 */
export function domainOf({ jobSet, namespace }: RunNames): string {
  return `${jobSet}.${namespace}.svc`;
}

export function etcdDomainOf({ etcd, namespace }: RunNames): string {
  return `${etcd}.${namespace}.svc`;
}

/** A pod's hostname as the JobSet's controller gives it; it stays when the pod is replaced. */
export function hostOf(names: RunNames, role: Role, rank: number): string {
  return `${names.jobSet}-${role}-0-${rank}.${domainOf(names)}`;
}

/** Names that the certificate of a run must have. */
export function certificateHosts(names: RunNames, withEtcd: boolean): string[] {
  return [`*.${domainOf(names)}`, ...(withEtcd ? [`*.${etcdDomainOf(names)}`] : [])];
}

export function labelsOf(names: RunNames, role?: Role | 'etcd'): Record<string, string> {
  return {
    [LABELS.application]: 'whittle',
    [LABELS.run]: names.jobSet,
    ...(role === undefined ? {} : { [LABELS.role]: role }),
  };
}
