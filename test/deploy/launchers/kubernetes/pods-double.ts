import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { PATHS } from '../../../../deploy/launchers/kubernetes/names.ts';
import { runPod } from '../../../../deploy/launchers/kubernetes/pod.ts';
import type { KubernetesObject } from '../../../../deploy/launchers/kubernetes/objects.ts';
import { packageRoot } from '../../../../shared/package-root.ts';
import type { Role } from '../../../../shared/telemetry/run-status.ts';
import type { ClusterDouble, Stored } from './cluster-double.ts';

interface PodSpec {
  readonly volumes: readonly { readonly configMap?: { readonly items: readonly { key: string; path: string }[] } }[];
  readonly containers: readonly [
    { readonly args: readonly string[]; readonly env: readonly { readonly name: string; readonly value?: string }[] },
  ];
}
interface Job {
  readonly name: Role;
  readonly template: {
    readonly spec: {
      readonly parallelism: number;
      readonly template: { readonly metadata: KubernetesObject['metadata']; readonly spec: PodSpec };
    };
  };
}

/**
 * What JobSet's controller and the kubelets do to a JobSet, in little: pods in order, each the real main process of a
 * pod with its role as a process of this machine. Ports, hosts and mounts become those of loopback and a folder; the
 * pods of a machine have no certificates, which would be for other names.
 */
export class PodsDouble {
  readonly #cluster: ClusterDouble;
  readonly #folder: string;
  readonly #running = new Map<string, { readonly stop: AbortController; readonly ended: Promise<void> }>();
  #scheduler: string | null = null;
  #serial = 0;
  #over = false;

  constructor(cluster: ClusterDouble, folder: string) {
    this.#cluster = cluster;
    this.#folder = folder;
    cluster.onChange = (verb, object) => {
      if (object.kind === 'JobSet' && verb === 'patch')
        this.#run(object).catch((error: unknown) => console.error(error));
      if (object.kind === 'Pod' && verb === 'patch') this.#annotate(object);
      if (object.kind === 'Pod' && verb === 'delete') this.#running.get(object.metadata.name)?.stop.abort();
    };
  }

  /** SIGTERM to a pod, as a drained node sends it; it is replaced under its rank. */
  evict(role: Role, rank: number): void {
    for (const [name, { stop }] of this.#running) if (name.startsWith(`mine-${role}-0-${rank}-`)) stop.abort();
  }

  async stop(): Promise<void> {
    this.#over = true;
    for (const { stop } of this.#running.values()) stop.abort();
    await Promise.all([...this.#running.values()].map(({ ended }) => ended));
  }

  async #run(jobSet: Stored): Promise<void> {
    const { replicatedJobs } = jobSet['spec'] as { replicatedJobs: Job[] };
    const files = this.#cluster.get('ConfigMap', `${jobSet.metadata.name}-files`)?.['data'] as Record<string, string>;
    const { volumes } = replicatedJobs[0]?.template.spec.template.spec ?? { volumes: [] };
    for (const { key, path } of volumes.flatMap(({ configMap }) => configMap?.items ?? []))
      write(join(this.#folder, 'files', path), (files[key] ?? '').replaceAll(PATHS.files, join(this.#folder, 'files')));
    for (const job of replicatedJobs) {
      for (let rank = 0; rank < job.template.spec.parallelism && !this.#over; rank++) this.#startPod(jobSet, job, rank);
      if (job.name === 'scheduler')
        while (this.#scheduler === null && !this.#over) await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  #startPod(jobSet: Stored, job: Job, rank: number): void {
    const { metadata, spec } = job.template.spec.template;
    const name = `${jobSet.metadata.name}-${job.name}-0-${rank}-${String(this.#serial++).padStart(5, '0')}`;
    const index = { 'batch.kubernetes.io/job-completion-index': String(rank) };
    this.#cluster.put({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        ...metadata,
        name,
        namespace: 'team',
        annotations: { ...metadata.annotations, ...index },
        ownerReferences: [
          { apiVersion: jobSet.apiVersion, kind: jobSet.kind, name: jobSet.metadata.name, uid: jobSet.metadata.uid },
        ],
      },
      spec,
      status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
    });
    const [{ args, env }] = spec.containers;
    const stop = new AbortController();
    const podFolder = join(this.#folder, 'pods', name);
    const given = Object.fromEntries(env.map(({ name: key, value }) => [key, value]));
    const ended = runPod({
      role: job.name,
      args: this.#onThisMachine(args.slice(1)),
      env: { ...given, WHITTLE_POD_DOMAIN: undefined, JOB_COMPLETION_INDEX: String(rank) },
      command: process.execPath,
      // Compiled: a pod's image has no sources either.
      entry: [join(packageRoot, 'dist', 'deploy', 'cli', 'main.js')],
      signal: stop.signal,
      filesFolder: join(this.#folder, 'files'),
      podFolder,
      pollEvery: 50,
      print: (line) => {
        const [, address] = /^\{"event":"listening","address":"([^"]+)"/.exec(line) ?? [];
        if (address !== undefined) this.#scheduler = address;
        this.#cluster.print(name, line);
      },
    })
      .catch((error: unknown) => {
        this.#cluster.print(name, `error: ${(error as Error).message}`);
        return 1;
      })
      .then((code) => this.#podEnded(jobSet, job, rank, name, code));
    this.#running.set(name, { stop, ended });
  }

  #podEnded(jobSet: Stored, job: Job, rank: number, pod: string, exitCode: number): void {
    this.#running.delete(pod);
    const state = { terminated: { exitCode, reason: exitCode === 0 ? 'Completed' : 'Error' } };
    this.#cluster.setStatus('Pod', pod, {
      phase: exitCode === 0 ? 'Succeeded' : 'Failed',
      containerStatuses: [{ name: 'whittle', state, image: '', imageID: '', ready: false, restartCount: 0 }],
    });
    if (this.#over || this.#cluster.get('JobSet', jobSet.metadata.name) === undefined) return;
    if (exitCode > 1) this.#startPod(jobSet, job, rank);
    else if (job.name === 'scheduler') {
      const type = exitCode === 0 ? 'Completed' : 'Failed';
      const condition = {
        type,
        status: 'True',
        message: `jobset ${type.toLowerCase()}`,
        reason: type,
        lastTransitionTime: new Date().toISOString(),
      };
      this.#cluster.setStatus('JobSet', jobSet.metadata.name, { conditions: [condition] });
    }
  }

  #onThisMachine(args: readonly string[]): string[] {
    const moved: string[] = [];
    for (let k = 0; k < args.length; k++) {
      const [arg = '', value = ''] = [args[k], args[k + 1]];
      if (arg === '--insecure') continue;
      k++;
      if (arg === '--health-port' || arg === '--certs') continue;
      if (arg === '--run-dir') moved.push(arg, join(this.#folder, value));
      else if (arg === '--host') moved.push(arg, '127.0.0.1');
      else if (arg === '--port') moved.push(arg, '0');
      else if (arg === '--scheduler') moved.push(arg, this.#scheduler ?? '');
      else moved.push(arg, value);
    }
    return moved;
  }

  /** The kubelet shows an annotation in a file of the pod. */
  #annotate({ metadata }: Stored): void {
    const reason = metadata.annotations?.['whittle/stop'];
    if (reason !== undefined) write(join(this.#folder, 'pods', metadata.name, 'stop'), reason);
  }
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  writeFileSync(path, text);
}
