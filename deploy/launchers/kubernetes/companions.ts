import { readFileSync } from 'node:fs';
import type {
  V1PersistentVolumeClaimSpec,
  V1PodDisruptionBudgetSpec,
  V1NetworkPolicySpec,
} from '@kubernetes/client-node';
import { WhittleError } from '../../../shared/errors.ts';
import { labelsOf, LABELS, type RunNames } from './names.ts';
import type { KubernetesObject } from './objects.ts';
import type { KubernetesOptions } from './options.ts';
import type { RunParts } from './pod-template.ts';

/** The run file and its modules. */
export function filesConfigMap({ names, files }: RunParts): KubernetesObject {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: names.files, namespace: names.namespace, labels: labelsOf(names) },
    data: Object.fromEntries(files.entries.map(({ key, text }) => [key, text])),
  };
}

/** Certificates, token and what else is secret, by key. */
export function runSecret(names: RunNames, values: Readonly<Record<string, string>>): KubernetesObject {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'Opaque',
    metadata: { name: names.secret, namespace: names.namespace, labels: labelsOf(names) },
    data: Object.fromEntries(Object.entries(values).map(([key, text]) => [key, Buffer.from(text).toString('base64')])),
  };
}

export function readSecretFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new WhittleError('USAGE', `${file} cannot be read: ${(cause as Error).message}; check the path`, { cause });
  }
}

/** Storage of the run directories, of all runs. It belongs to no run: a checkpoint outlives what wrote it. */
export function runsClaim(names: RunNames, options: KubernetesOptions): KubernetesObject {
  const spec: V1PersistentVolumeClaimSpec = {
    accessModes: ['ReadWriteMany'],
    resources: { requests: { storage: options.storageSize } },
    ...(options.storageClass === null ? {} : { storageClassName: options.storageClass }),
  };
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: options.claim, namespace: names.namespace, labels: { [LABELS.application]: 'whittle' } },
    spec,
  };
}

/**
 * What a drain of nodes must leave alone: scheduler and servers, which hold what the run has learnt since its last
 * checkpoint, and all workers but one, whose slices the others take. Whole numbers of `minAvailable`, since pods of
 * Jobs have no scale that percentages could be taken of.
 */
export function disruptionBudgets({ names, servers, workers }: RunParts): KubernetesObject[] {
  const budget = (suffix: string, minAvailable: number, roles: readonly string[]): KubernetesObject => {
    const spec: V1PodDisruptionBudgetSpec = {
      minAvailable,
      // A pod that is not ready protects nothing, and must not keep a node from being drained.
      unhealthyPodEvictionPolicy: 'AlwaysAllow',
      selector: {
        matchLabels: labelsOf(names),
        matchExpressions: [{ key: LABELS.role, operator: 'In', values: [...roles] }],
      },
    };
    return {
      apiVersion: 'policy/v1',
      kind: 'PodDisruptionBudget',
      metadata: { name: `${names.jobSet}-${suffix}`, namespace: names.namespace, labels: labelsOf(names) },
      spec,
    };
  };
  return [
    budget('state', 1 + servers, ['scheduler', 'server']),
    ...(workers === 1 ? [] : [budget('workers', workers - 1, ['worker'])]),
  ];
}

/** The policy's `ingress.from` as JSON has it: the client's types call it `_from`. */
type PolicySpec = Omit<V1NetworkPolicySpec, 'ingress'> & { ingress: { from: { podSelector: object }[] }[] };

/** Only pods of the run reach pods of the run. Probes come from the node, which no policy keeps out. */
export function networkPolicy({ names }: RunParts): KubernetesObject {
  const podSelector = { matchLabels: labelsOf(names) };
  const spec: PolicySpec = { podSelector, policyTypes: ['Ingress'], ingress: [{ from: [{ podSelector }] }] };
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: names.jobSet, namespace: names.namespace, labels: labelsOf(names) },
    spec,
  };
}
