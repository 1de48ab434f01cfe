import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { KubernetesObject } from '../../../../deploy/launchers/kubernetes/objects.ts';
import { problemOf } from './schemas.ts';

type Json = Record<string, unknown>;
export interface Stored extends KubernetesObject {
  readonly metadata: KubernetesObject['metadata'] & { readonly uid: string; readonly creationTimestamp: string };
}

/** Resources by the path segment in their URLs. */
const RESOURCES: Readonly<Record<string, { readonly group: string; readonly kind: string }>> = {
  configmaps: { group: 'v1', kind: 'ConfigMap' },
  secrets: { group: 'v1', kind: 'Secret' },
  services: { group: 'v1', kind: 'Service' },
  pods: { group: 'v1', kind: 'Pod' },
  persistentvolumeclaims: { group: 'v1', kind: 'PersistentVolumeClaim' },
  statefulsets: { group: 'apps/v1', kind: 'StatefulSet' },
  networkpolicies: { group: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
  poddisruptionbudgets: { group: 'policy/v1', kind: 'PodDisruptionBudget' },
  jobsets: { group: 'jobset.x-k8s.io/v1alpha2', kind: 'JobSet' },
};

/**
 * The part of Kubernetes' API that a launcher uses, over HTTP on loopback. Refuses every object that its official
 * schema refuses, keeps what it took, and deletes what is owned with its owner. What controllers and kubelets would do,
 * the tests do.
 */
export class ClusterDouble {
  readonly requests: string[] = [];
  readonly objects = new Map<string, Stored>();
  /** Lines of pods' logs, with their times. */
  readonly logs = new Map<string, string[]>();
  /** Called after each change, as a controller's watch would be. */
  onChange: (verb: 'create' | 'patch' | 'delete', object: Stored) => void = () => undefined;
  /** Answers a request in its own way, or null. */
  intercept: (method: string, path: string) => { readonly status: number; readonly body: unknown } | null = () => null;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<ClusterDouble> {
    const server = createServer();
    const double = new ClusterDouble(server);
    server.on('request', (request: IncomingMessage, response) => {
      void readBody(request).then((body) => {
        const { status, body: answer } = double.#answer(request.method ?? 'GET', request.url ?? '/', body);
        response.writeHead(status, { 'content-type': typeof answer === 'string' ? 'text/plain' : 'application/json' });
        response.end(typeof answer === 'string' ? answer : JSON.stringify(answer));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return double;
  }

  /** Writes a kubeconfig whose context `double` is this cluster, in namespace `team`. */
  writeKubeconfig(folder: string): string {
    const path = join(folder, 'kubeconfig');
    const server = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'double',
      clusters: [{ name: 'double', cluster: { server, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'me', user: { token: 'secret-of-the-user' } }],
      contexts: [{ name: 'double', context: { cluster: 'double', user: 'me', namespace: 'team' } }],
    };
    writeFileSync(path, stringify(config));
    return path;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  get(kind: string, name: string): Stored | undefined {
    return this.objects.get(`${kind}/${name}`);
  }

  of(kind: string): Stored[] {
    return [...this.objects.values()].filter((each) => each.kind === kind);
  }

  /** As a controller or kubelet would, past the API's checks. */
  put(object: KubernetesObject): Stored {
    const stored = {
      ...object,
      metadata: { uid: randomUUID(), creationTimestamp: new Date().toISOString(), ...object.metadata },
    };
    this.objects.set(`${object.kind}/${object.metadata.name}`, stored);
    return stored;
  }

  setStatus(kind: string, name: string, status: Json): void {
    const found = this.get(kind, name);
    if (found !== undefined) this.objects.set(`${kind}/${name}`, { ...found, status });
  }

  #answer(method: string, url: string, body: string): { status: number; body: unknown } {
    const { pathname, searchParams } = new URL(url, 'http://cluster');
    this.requests.push(`${method} ${pathname}`);
    const own = this.intercept(method, pathname);
    if (own !== null) return own;
    const [, group = '', rest = ''] = /^\/(?:api|apis)\/(v1|[^/]+\/[^/]+)(?:\/(.*))?$/.exec(pathname) ?? [];
    if (rest === '') return discovery(group);
    const [, namespace, plural = '', name, part] =
      /^namespaces\/([^/]+)\/([^/]+)(?:\/([^/]+))?(?:\/(log))?$/.exec(rest) ?? [];
    const resource = RESOURCES[plural];
    if (resource === undefined || resource.group !== group || namespace !== 'team')
      return failure(404, `no ${pathname}`);
    if (part === 'log' && name !== undefined) return this.#log(name, searchParams);
    if (method === 'POST') return this.#create(JSON.parse(body) as KubernetesObject, resource.kind);
    if (name === undefined) return this.#list(resource.kind, group, searchParams.get('labelSelector') ?? '');
    const found = this.get(resource.kind, name);
    if (found === undefined) return failure(404, `${plural} "${name}" not found`);
    if (method === 'PATCH') return this.#patch(found, JSON.parse(body) as Json);
    if (method === 'DELETE') {
      this.#delete(found);
      return { status: 200, body: { apiVersion: 'v1', kind: 'Status', status: 'Success' } };
    }
    return { status: 200, body: found };
  }

  #create(object: KubernetesObject, kind: string): { status: number; body: unknown } {
    const problem = object.kind === kind ? problemOf(object) : `${object.kind} is no ${kind}`;
    if (problem !== null) return failure(422, `${kind} ${object.metadata.name} is invalid: ${problem}`);
    if (this.get(kind, object.metadata.name) !== undefined)
      return failure(409, `${kind} "${object.metadata.name}" already exists`);
    const owners = object.metadata.ownerReferences ?? [];
    if (owners.some((owner) => this.get(owner.kind, owner.name)?.metadata.uid !== owner.uid))
      return failure(422, `${kind} ${object.metadata.name} has an owner that does not exist`);
    const stored = this.put(object);
    this.onChange('create', stored);
    return { status: 201, body: stored };
  }

  #patch(found: Stored, change: Json): { status: number; body: unknown } {
    const merged = merge(found, change) as Stored;
    const problem = problemOf(merged);
    if (problem !== null) return failure(422, `${found.kind} ${found.metadata.name} is invalid: ${problem}`);
    this.objects.set(`${merged.kind}/${merged.metadata.name}`, merged);
    this.onChange('patch', merged);
    return { status: 200, body: merged };
  }

  #delete(found: Stored): void {
    this.objects.delete(`${found.kind}/${found.metadata.name}`);
    this.onChange('delete', found);
    for (const each of [...this.objects.values()])
      if (each.metadata.ownerReferences?.some(({ uid }) => uid === found.metadata.uid)) this.#delete(each);
  }

  #list(kind: string, apiVersion: string, selector: string): { status: number; body: unknown } {
    const wanted = selector === '' ? [] : selector.split(',').map((each) => each.split('='));
    const items = this.of(kind).filter(({ metadata }) =>
      wanted.every(([key = '', value]) => metadata.labels?.[key] === value),
    );
    return { status: 200, body: { apiVersion, kind: `${kind}List`, metadata: {}, items } };
  }

  #log(pod: string, query: URLSearchParams): { status: number; body: unknown } {
    const lines = this.logs.get(pod);
    if (lines === undefined) return failure(400, `container "whittle" in pod "${pod}" is waiting to start`);
    const tail = query.get('tailLines');
    const since = query.get('sinceSeconds');
    const from = since === null ? '' : new Date(Date.now() - 1000 * Number(since)).toISOString();
    const shown = lines.filter((line) => line >= from);
    return {
      status: 200,
      body: (tail === null ? shown : shown.slice(-Number(tail))).map((line) => `${line}\n`).join(''),
    };
  }

  print(pod: string, line: string): void {
    const lines = this.logs.get(pod) ?? [];
    this.logs.set(pod, lines);
    // Nanoseconds of a node's clock; the fraction loses its trailing zeros.
    lines.push(`${new Date().toISOString().replace('Z', String(lines.length).padStart(6, '0'))}Z ${line}`);
  }
}

function discovery(group: string): { status: number; body: unknown } {
  const resources = Object.entries(RESOURCES)
    .filter(([, each]) => each.group === group)
    .map(([name, { kind }]) => ({ name, kind, singularName: '', namespaced: true, verbs: ['create'] }));
  if (resources.length === 0) return failure(404, 'the server could not find the requested resource');
  return { status: 200, body: { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: group, resources } };
}

function failure(code: number, message: string): { status: number; body: unknown } {
  return { status: code, body: { apiVersion: 'v1', kind: 'Status', status: 'Failure', message, code } };
}

/** RFC 7396. */
function merge(target: unknown, change: unknown): unknown {
  if (typeof change !== 'object' || change === null || Array.isArray(change)) return change;
  const merged: Json = { ...(target as Json) };
  for (const [key, value] of Object.entries(change)) {
    if (value === null) delete merged[key];
    else merged[key] = merge(merged[key] ?? {}, value);
  }
  return merged;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
