import type { V1JobSpec, V1PodFailurePolicyRule } from '@kubernetes/client-node';
import type { Role } from '../../../shared/telemetry/run-status.ts';
import { ANNOTATIONS, CONTAINER, labelsOf } from './names.ts';
import type { KubernetesObject } from './objects.ts';
import { podTemplate, type RunParts } from './pod-template.ts';

export const JOB_SET = { apiVersion: 'jobset.x-k8s.io/v1alpha2', kind: 'JobSet' } as const;

/** Exit codes of a pod's main process; the failure policy of its Job goes by them. */
export const POD_EXIT = {
  done: 0,
  /** The run is over and failed: no other pod could do better. */
  failed: 1,
  /** The role died: another pod takes its place. */
  died: 70,
} as const;

/** Logs of pods and the JobSet's state stay so long after the end, in seconds. */
const KEEP_AFTER_END = 7 * 86_400;

/**
 * The run as a JobSet: scheduler, then servers, then workers, each role one indexed Job whose pods are replaced one by
 * one under their names. The scheduler alone decides how the run ends, as everywhere: when its Job completes the JobSet
 * is complete, when it fails the JobSet fails, and nothing ever starts all of them over.
 */
export function jobSet(parts: RunParts, suspend: boolean): KubernetesObject {
  const { names } = parts;
  return {
    ...JOB_SET,
    metadata: {
      name: names.jobSet,
      namespace: names.namespace,
      labels: labelsOf(names),
      annotations: { [ANNOTATIONS.runId]: names.runId },
    },
    spec: {
      suspend,
      network: { enableDNSHostnames: true, subdomain: names.jobSet, publishNotReadyAddresses: true },
      startupPolicy: { startupPolicyOrder: 'InOrder' },
      successPolicy: { operator: 'All', targetReplicatedJobs: ['scheduler'] },
      failurePolicy: { maxRestarts: 0 },
      ttlSecondsAfterFinished: KEEP_AFTER_END,
      replicatedJobs: [
        replicatedJob(parts, 'scheduler', 1),
        replicatedJob(parts, 'server', parts.servers),
        replicatedJob(parts, 'worker', parts.workers),
      ],
    },
  };
}

function replicatedJob(parts: RunParts, role: Role, count: number): { name: string; replicas: 1; template: object } {
  return {
    name: role,
    replicas: 1,
    template: { metadata: { labels: labelsOf(parts.names, role) }, spec: jobSpec(parts, role, count) },
  };
}

function jobSpec(parts: RunParts, role: Role, count: number): V1JobSpec {
  return {
    completionMode: 'Indexed',
    completions: count,
    parallelism: count,
    // A pod's index is its role's rank. One that is lost does not use up the restarts of another.
    backoffLimitPerIndex: parts.maxRestarts,
    // Never two of one rank: the next is made when the last has ended.
    podReplacementPolicy: 'Failed',
    podFailurePolicy: { rules: failureRules(role) },
    template: podTemplate(parts, role),
  };
}

function failureRules(role: Role): V1PodFailurePolicyRule[] {
  const drained: V1PodFailurePolicyRule = {
    // A node was drained or a pod preempted: no fault of the role's.
    action: 'Ignore',
    onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }],
  };
  if (role !== 'scheduler') return [drained];
  return [
    drained,
    {
      action: 'FailJob',
      onExitCodes: { containerName: CONTAINER, operator: 'In', values: [POD_EXIT.failed] },
    },
  ];
}
