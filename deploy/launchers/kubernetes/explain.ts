import type { V1ContainerStatus } from '@kubernetes/client-node';
import type { Role } from '../../../shared/telemetry/run-status.ts';
import type { Pod } from './api.ts';
import { CONTAINER, LABELS } from './names.ts';

/** Where a pod of a run stands, in words where it does not simply run. */
export interface PodState {
  readonly role: Role;
  readonly rank: number;
  readonly name: string;
  readonly phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown';
  readonly ready: boolean;
  readonly node: string | null;
  /** Null: nothing is wrong. */
  readonly problem: PodProblem | null;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  readonly exitCode: number | null;
}

export interface PodProblem {
  /** As Kubernetes calls it: ImagePullBackOff, Unschedulable, OOMKilled. */
  readonly reason: string;
  /** With the cure. */
  readonly message: string;
  /** `waits`: others may still mend it (a node comes). `stuck`: somebody must. `ended`: the pod is over. */
  readonly kind: 'waits' | 'stuck' | 'ended';
}

/** Null for a pod that is no role's, such as one of etcd's. */
export function podState(pod: Pod): PodState | null {
  const role = pod.metadata?.labels?.[LABELS.role];
  if (role !== 'scheduler' && role !== 'server' && role !== 'worker') return null;
  const annotations = pod.metadata?.annotations ?? {};
  const status = pod.status ?? {};
  const phase = status.phase ?? 'Pending';
  const container = status.containerStatuses?.find(({ name }) => name === CONTAINER);
  return {
    role,
    rank: Number(annotations['batch.kubernetes.io/job-completion-index'] ?? 0),
    name: pod.metadata?.name ?? '',
    phase: isPhase(phase) ? phase : 'Unknown',
    ready: status.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') ?? false,
    node: pod.spec?.nodeName ?? null,
    problem: problemOf(pod, role, container),
    createdAt: pod.metadata?.creationTimestamp?.getTime() ?? 0,
    exitCode: container?.state?.terminated?.exitCode ?? null,
  };
}

function isPhase(phase: string): phase is PodState['phase'] {
  return ['Pending', 'Running', 'Succeeded', 'Failed'].includes(phase);
}

function problemOf(pod: Pod, role: Role, container: V1ContainerStatus | undefined): PodProblem | null {
  const status = pod.status ?? {};
  const limit = pod.spec?.containers[0]?.resources?.limits?.['memory'] ?? 'unknown';
  const image = pod.spec?.containers[0]?.image ?? 'unknown';
  const terminated = container?.state?.terminated;
  if (terminated !== undefined && terminated.reason === 'OOMKilled')
    return ended(
      'OOMKilled',
      `needed more memory than its limit ${limit}; give more with --resources ${role}=CPU,MEMORY`,
    );
  const disrupted = status.conditions?.find(({ type, status: is }) => type === 'DisruptionTarget' && is === 'True');
  if (disrupted !== undefined && status.phase !== 'Succeeded')
    return ended(
      disrupted.reason ?? 'DisruptionTarget',
      `had to leave its node: ${disrupted.message ?? 'no reason given'}`,
    );
  if (status.phase === 'Failed') {
    const reason = status.reason ?? terminated?.reason ?? 'Error';
    const said = lastLine(status.message ?? terminated?.message);
    const code = terminated === undefined ? '' : ` with exit code ${terminated.exitCode}`;
    return ended(reason, `ended${code}${said === '' ? '' : `: ${said}`}`);
  }
  const waiting = container?.state?.waiting;
  const why = lastLine(waiting?.message);
  switch (waiting?.reason) {
    case 'ImagePullBackOff':
    case 'ErrImagePull':
    case 'InvalidImageName':
    case 'ErrImageNeverPull':
      return {
        reason: waiting.reason,
        kind: 'stuck',
        message: `image ${image} cannot be pulled${why === '' ? '' : ` (${why})`}; check --image, push it, or give --image-pull-secret`,
      };
    case 'CreateContainerConfigError':
    case 'CreateContainerError':
    case 'RunContainerError':
      return { reason: waiting.reason, kind: 'stuck', message: `the container cannot be started: ${why}` };
    default:
  }
  const scheduled = status.conditions?.find(({ type }) => type === 'PodScheduled');
  if (scheduled?.status === 'False')
    return {
      reason: scheduled.reason ?? 'Unschedulable',
      kind: 'waits',
      message: `waits for a node: ${scheduled.message ?? 'no reason given'}${cureOf(scheduled.message ?? '', role)}`,
    };
  return null;
}

function cureOf(message: string, role: Role): string {
  if (/PersistentVolumeClaim/i.test(message))
    return '; the claim needs a ReadWriteMany volume: see --claim and --storage-class';
  if (/nvidia\.com\/gpu/.test(message)) return '; ask for fewer with --gpus or --workers';
  if (/Insufficient (cpu|memory)/.test(message)) return `; ask for less with --resources ${role}=CPU,MEMORY`;
  return '';
}

function ended(reason: string, message: string): PodProblem {
  return { reason, message, kind: 'ended' };
}

/** A termination message may be the end of a log; its last line says most. */
function lastLine(text: string | undefined): string {
  return (text ?? '').trim().split('\n').at(-1)?.slice(0, 300) ?? '';
}

/** `servers 1/2, workers 0/4 ready`. */
export function describeReadiness(pods: readonly PodState[], sizes: Readonly<Record<Role, number>>): string {
  const ready = (role: Role): string => `${pods.filter((pod) => pod.role === role && pod.ready).length}/${sizes[role]}`;
  return `ready: scheduler ${ready('scheduler')}, servers ${ready('server')}, workers ${ready('worker')}`;
}
