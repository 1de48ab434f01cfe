import type * as Client from '@kubernetes/client-node';
import { setTimeout as sleep } from 'node:timers/promises';
import { WhittleError } from '../../../shared/errors.ts';
import type { KubernetesObject } from './objects.ts';

export type Pod = Client.V1Pod;

/** What names an object. */
export interface ObjectReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
}

export interface LogRequest {
  /** Only the last lines. */
  readonly tailLines?: number;
  /** Only what was written in so many seconds before now. */
  readonly sinceSeconds?: number;
}

/** The part of Kubernetes' API that a run needs, in one namespace. Every call has a deadline. */
export interface ClusterApi {
  readonly namespace: string;
  readonly context: string;
  /** Errors: RUN_EXISTS where there is one of that name. */
  create(object: KubernetesObject): Promise<KubernetesObject & { readonly metadata: { readonly uid: string } }>;
  /** Null where there is none. */
  read(reference: ObjectReference): Promise<KubernetesObject | null>;
  /** A merge patch (RFC 7396); false where there is no such object. */
  patch(reference: ObjectReference, change: Readonly<Record<string, unknown>>): Promise<boolean>;
  /**
   * With all that it owns. `Background`: the object first; `Foreground`: it is gone when all it owned is gone. False
   * where there is no such object.
   */
  remove(reference: ObjectReference, propagation: 'Background' | 'Foreground'): Promise<boolean>;
  /** The pods with these labels. */
  pods(labels: Readonly<Record<string, string>>): Promise<Pod[]>;
  /** The log of a pod's container, each line after its time; empty where it has none yet. */
  log(pod: string, container: string, request: LogRequest): Promise<string>;
}

/** From a request to its answer, in milliseconds. */
const DEADLINE = 30_000;
const NO_CLUSTER = 'http://localhost:8080';
const JOBSET_CURE =
  'ask an administrator to install it: kubectl apply --server-side -f https://github.com/kubernetes-sigs/jobset/releases/latest/download/manifests.yaml';

/**
 * The cluster of a kubeconfig's context ($KUBECONFIG, ~/.kube/config, or the service account of a pod).
 * Errors: USAGE where client or context are missing.
 */
export async function connectCluster(options: {
  readonly context: string | null;
  readonly namespace: string | null;
}): Promise<ClusterApi> {
  const client = await loadClient();
  const config = new client.KubeConfig();
  try {
    config.loadFromDefault();
  } catch (cause) {
    throw new WhittleError('USAGE', `the kubeconfig cannot be read: ${messageOf(cause)}; check $KUBECONFIG`, { cause });
  }
  // What the client falls back to where it finds nothing.
  if (config.getCurrentContext() === 'loaded-context' && config.getCurrentCluster()?.server === NO_CLUSTER)
    throw new WhittleError(
      'USAGE',
      'there is no kubeconfig: neither ~/.kube/config nor $KUBECONFIG; fetch that of the cluster, `kubectl get pods` must work',
    );
  const context = options.context ?? config.getCurrentContext();
  const found = config.getContextObject(context);
  if (found === null || config.getCluster(found.cluster) === null) {
    const known = config.getContexts().map(({ name }) => name);
    throw new WhittleError(
      'USAGE',
      `the kubeconfig has no context "${context}"; ${known.length === 0 ? 'it has none: set $KUBECONFIG' : `there is ${known.join(', ')}`}`,
      { data: { context, known } },
    );
  }
  config.setCurrentContext(context);
  const { server, skipTLSVerify } = config.getCluster(found.cluster) ?? {};
  // The client would say so at the first request only, and not what to do.
  if (server?.startsWith('http:') === true && skipTLSVerify !== true)
    throw new WhittleError(
      'USAGE',
      `context "${context}" reaches ${server} without TLS; give its cluster an https:// server in the kubeconfig, or insecure-skip-tls-verify: true where that is meant`,
      { data: { context, server } },
    );
  return clusterApi(client, config, context, options.namespace ?? found.namespace ?? 'default');
}

/** An optional peer: only who launches on a cluster needs it, and it brings some thirty packages. */
async function loadClient(): Promise<typeof Client> {
  try {
    return await import('@kubernetes/client-node');
  } catch (cause) {
    throw new WhittleError(
      'USAGE',
      `--on kubernetes needs the package @kubernetes/client-node, which cannot be loaded (${messageOf(cause)}); npm install @kubernetes/client-node@1`,
      { cause },
    );
  }
}

function clusterApi(client: typeof Client, config: Client.KubeConfig, context: string, namespace: string): ClusterApi {
  const objects = client.KubernetesObjectApi.makeApiClient(config);
  const core = config.makeApiClient(client.CoreV1Api);
  const server = config.getCurrentCluster()?.server ?? '';

  const call = async <T>(what: string, request: () => Promise<T>): Promise<T> => {
    const over = new AbortController();
    try {
      return await Promise.race([
        request(),
        sleep(DEADLINE, undefined, { ref: false, signal: over.signal }).then(() => {
          throw new WhittleError('DEADLINE', `waited ${DEADLINE / 1000} s for ${server} to ${what}; try again`, {
            retryable: true,
            data: { server },
          });
        }),
      ]);
    } catch (reason) {
      throw reason instanceof WhittleError ? reason : apiError(reason, what, { server, namespace });
    } finally {
      over.abort();
    }
  };
  const header = ({ apiVersion, kind, name }: ObjectReference) => ({ apiVersion, kind, metadata: { name, namespace } });
  const named = ({ kind, name }: ObjectReference): string => `${kind} ${name}`;

  return {
    namespace,
    context,
    create: (object) =>
      call(`create ${named({ ...object, name: object.metadata.name })}`, async () => {
        const created: unknown = await objects.create(forClient(object));
        return created as KubernetesObject & { readonly metadata: { readonly uid: string } };
      }),
    read: (reference) =>
      call(`read ${named(reference)}`, async () => {
        const found: unknown = await objects.read(header(reference)).catch(nullWhereMissing);
        return found as KubernetesObject | null;
      }),
    patch: (reference, change) =>
      call(`change ${named(reference)}`, async () => {
        const { metadata, ...rest } = change;
        const patch = { ...header(reference), ...rest };
        patch.metadata = { ...patch.metadata, ...(metadata as object | undefined) };
        // The client takes the class from a constant that is only there at run time.
        const { MergePatch } = client.PatchStrategy;
        const done = await objects
          .patch(patch, undefined, undefined, undefined, undefined, MergePatch)
          .catch(nullWhereMissing);
        return done !== null;
      }),
    remove: (reference, propagation) =>
      call(`delete ${named(reference)}`, async () => {
        const done = await objects
          .delete(header(reference), undefined, undefined, undefined, undefined, propagation)
          .catch(nullWhereMissing);
        return done !== null;
      }),
    pods: (labels) =>
      call('list pods', async () => {
        const labelSelector = Object.entries(labels)
          .map(([key, value]) => `${key}=${value}`)
          .join(',');
        return (await core.listNamespacedPod({ namespace, labelSelector })).items;
      }),
    log: (pod, container, request) =>
      call(`give the log of pod ${pod}`, async () => {
        const given = { name: pod, namespace, container, timestamps: true, ...request };
        try {
          return await core.readNamespacedPodLog(given);
        } catch (reason) {
          // 400: the container waits to start; 404: the pod was replaced meanwhile.
          if (statusOf(reason) === 400 || statusOf(reason) === 404) return '';
          throw reason;
        }
      }),
  };
}

/** The client's types call a policy's `from` `_from`, and drop what they do not know. */
function forClient(object: KubernetesObject): object {
  if (object.kind !== 'NetworkPolicy') return object;
  const spec = object['spec'] as { readonly ingress: readonly { readonly from: unknown }[] };
  return { ...object, spec: { ...spec, ingress: spec.ingress.map(({ from }) => ({ _from: from })) } };
}

function nullWhereMissing(reason: unknown): null {
  if (statusOf(reason) === 404) return null;
  throw reason;
}

function statusOf(reason: unknown): number | null {
  const { code } = reason as { readonly code?: unknown };
  return typeof code === 'number' ? code : null;
}

/** What the API answered, with its reason and what to do about it. */
function apiError(reason: unknown, what: string, at: { readonly server: string; readonly namespace: string }): Error {
  const { server, namespace } = at;
  const status = statusOf(reason);
  const answer = answerOf(reason);
  const data = { server, namespace, status };
  if (status === null) {
    if (/Unrecognized API version and kind/.test(answer))
      return new WhittleError(
        'UNSUPPORTED',
        `${server} cannot ${what}: it has no such kind (${answer}); ${JOBSET_CURE}`,
        {
          cause: reason,
          data,
        },
      );
    // Without its cause: a network that is away is no defect whose stack would help.
    return new WhittleError('DEADLINE', `${server} cannot be reached to ${what}: ${answer}; check the context`, {
      data,
      retryable: true,
    });
  }
  if (status === 404 && what.includes('JobSet'))
    return new WhittleError('UNSUPPORTED', `${server} cannot ${what}: it has no JobSets; ${JOBSET_CURE}`, {
      cause: reason,
      data,
    });
  if (status === 409) return new WhittleError('RUN_EXISTS', `cannot ${what}: ${answer}`, { cause: reason, data });
  const cure =
    status === 401
      ? 'log in to the cluster again'
      : status === 403
        ? 'deploy/kubernetes/role.yaml has the permissions that a user needs'
        : 'see its message';
  return new WhittleError(
    status === 401 || status === 403 || status === 422 ? 'USAGE' : 'INTERNAL',
    `${server} refused to ${what} in namespace ${namespace} (${status}): ${answer}; ${cure}`,
    { cause: reason, data, retryable: status >= 500 || status === 429 },
  );
}

function answerOf(reason: unknown): string {
  const { body } = reason as { readonly body?: unknown };
  try {
    const parsed: unknown = typeof body === 'string' ? JSON.parse(body) : body;
    const { message } = (parsed ?? {}) as { readonly message?: unknown };
    if (typeof message === 'string') return message;
  } catch {
    // Not the API's own answer: a proxy's page, or an error of the connection.
  }
  return messageOf(reason);
}

function messageOf(reason: unknown): string {
  return reason instanceof Error ? reason.message : String(reason);
}
