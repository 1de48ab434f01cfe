import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { WhittleError } from '../../shared/errors.ts';
import { isCompiled } from '../../shared/package-root.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import { defineLauncher } from './define.ts';
import { type ClusterApi, connectCluster } from './kubernetes/api.ts';
import { JOB_SET } from './kubernetes/job-set.ts';
import { manifestsYaml } from './kubernetes/manifests.ts';
import { type KubernetesOptions, kubernetesFlags, kubernetesOptionsOf } from './kubernetes/options.ts';
import type { RunParts } from './kubernetes/pod-template.ts';
import { askPodToStop } from './kubernetes/stop.ts';
import { runParts, submitRun } from './kubernetes/submit.ts';
import { RunWatch } from './kubernetes/watch.ts';
import type { LaunchedRun, Launcher, LaunchPlan, RunEnd } from './launcher.ts';
import { findError } from './listening.ts';

/** What `--on kubernetes` is. */
export const kubernetesLauncher = defineLauncher({
  name: 'kubernetes',
  summary: 'as pods of a JobSet',
  options: kubernetesFlags,
  create: (flags) => createKubernetesLauncher(kubernetesOptionsOf(flags)),
});

/** Milliseconds. */
export interface KubernetesTimes {
  readonly pollEvery: number;
  /** From a pod that cannot start for a reason that somebody must mend (its image) to giving up. */
  readonly stuck: number;
  /** How long the cluster may be out of reach while the run is followed. */
  readonly unreachable: number;
}

const TIMES: KubernetesTimes = { pollEvery: 2_000, stuck: 600_000, unreachable: 600_000 };

/**
 * Runs each role as a pod. The cluster supervises: this process submits the objects and follows the run through the
 * API alone, so it needs no network to the pods and no share of their storage.
 */
export function createKubernetesLauncher(
  options: KubernetesOptions,
  given: { readonly connect?: typeof connectCluster; readonly times?: Partial<KubernetesTimes> } = {},
): Launcher {
  const { connect = connectCluster } = given;
  const times = { ...TIMES, ...given.times };
  return {
    name: 'kubernetes',
    preview: async (plan, config) => {
      // Without a cluster at hand the manifests can still be looked at.
      const namespace = options.namespace ?? (await connect(options).catch(() => null))?.namespace ?? 'default';
      return manifestsYaml(runParts(plan, config, options, namespace));
    },
    detach: async (plan) => {
      const api = await connect(options);
      const { names } = await submitRun(api, plan, options, () => undefined);
      return {
        what: `JobSet ${names.jobSet} in namespace ${names.namespace}`,
        data: { jobSet: names.jobSet, namespace: names.namespace, context: api.context },
      };
    },
    start: async (plan, signal, tell = () => undefined) => {
      const api = await connect(options);
      const parts = await submitRun(api, plan, options, tell);
      return new Followed(api, plan, parts, tell, times).start(signal);
    },
  };
}

/** A run on the cluster, as this process follows it. Statuses and result are kept in the run directory here. */
class Followed {
  readonly #api: ClusterApi;
  readonly #plan: LaunchPlan;
  readonly #parts: RunParts;
  readonly #tell: (line: string) => void;
  readonly #times: KubernetesTimes;
  readonly #watch: RunWatch;
  #stuckSince: number | null = null;

  constructor(
    api: ClusterApi,
    plan: LaunchPlan,
    parts: RunParts,
    tell: (line: string) => void,
    times: KubernetesTimes,
  ) {
    this.#api = api;
    this.#plan = plan;
    this.#parts = parts;
    this.#tell = tell;
    this.#times = times;
    const directory = new RunDirectory(plan.runDirectory);
    const here = { runDirectory: plan.runDirectory };
    this.#watch = new RunWatch(api, parts.names, this.#sizes(), {
      tell,
      onStatus: (status) => directory.writeStatus({ ...status, ...here }),
      onResult: (result) => directory.writeResult({ ...result, ...here }),
    });
  }

  async start(signal: AbortSignal): Promise<LaunchedRun> {
    const { pollEvery } = this.#times;
    // A second Ctrl-C ends this process: then the run goes too. A closed terminal leaves it alone.
    const onExit = (): void => {
      if (signal.aborted) deleteFromExit(this.#api, this.#parts.names.jobSet);
    };
    process.on('exit', onExit);
    try {
      while (!this.#isUp()) {
        if (signal.aborted)
          throw new WhittleError('INTERRUPTED', 'interrupted while the run was starting; it is deleted');
        await this.#watch.look();
        this.#throwIfHopeless();
        if (!this.#isUp()) await sleep(pollEvery, undefined, { signal }).catch(() => undefined);
      }
    } catch (error) {
      process.off('exit', onExit);
      // What failed by itself stays for who wants to look at it.
      if (this.#watch.end === null) await this.#kill();
      throw error;
    }
    const { listening, pods } = this.#watch;
    return {
      schedulerAddress: listening?.address ?? '',
      generation: listening?.generation ?? 0,
      processes: pods.map(({ role, rank }) => ({ role, rank, pid: 0 })),
      ended: this.#untilEnded().finally(() => process.off('exit', onExit)),
      stop: () => this.#stop(),
      kill: () => void this.#kill().catch((error: unknown) => this.#tell(`not deleted: ${String(error)}`)),
    };
  }

  /** Waits for a scheduler's pod that is being replaced; a run that has not begun has nothing to keep. */
  async #stop(): Promise<void> {
    while (this.#watch.end === null && !(await askPodToStop(this.#api, this.#watch.scheduler, 'interrupted'))) {
      if (!this.#watch.pods.some(({ role }) => role === 'server')) return this.#kill();
      await sleep(this.#times.pollEvery);
    }
  }

  /** The scheduler accepts members, and all roles have begun or the run goes on without those that wait. */
  #isUp(): boolean {
    const { listening, pods, status } = this.#watch;
    const begun = pods.filter(({ phase }) => phase !== 'Pending').length;
    const { scheduler, server, worker } = this.#sizes();
    return listening !== null && (begun === scheduler + server + worker || status?.state === 'RUNNING');
  }

  #sizes(): { readonly scheduler: number; readonly server: number; readonly worker: number } {
    return { scheduler: 1, server: this.#parts.servers, worker: this.#parts.workers };
  }

  #throwIfHopeless(): void {
    const { end, pods, lines } = this.#watch;
    if (end !== null) throw findError(lines) ?? this.#lost(`ended before it ran: ${this.#why(end.message)}`);
    const stuck = pods.find(({ problem }) => problem?.kind === 'stuck');
    if (stuck === undefined) this.#stuckSince = null;
    else if (Date.now() - (this.#stuckSince ??= Date.now()) >= this.#times.stuck)
      throw this.#lost(`gave up: ${stuck.role}[${stuck.rank}] ${stuck.problem?.message ?? ''}`);
  }

  #lost(message: string): WhittleError {
    const { jobSet, namespace } = this.#parts.names;
    return new WhittleError('ROLE_LOST', `run ${this.#plan.runId} ${message}`, {
      data: { jobSet, namespace, stack: this.#watch.lines.slice(-20).join('\n') },
    });
  }

  #why(message: string): string {
    const problem = this.#watch.pods.find((pod) => pod.problem?.kind === 'ended')?.problem;
    return problem === undefined || problem === null ? message : `${message}; ${problem.message} [${problem.reason}]`;
  }

  /** Never rejects: a cluster that is out of reach for a while is waited for. */
  async #untilEnded(): Promise<RunEnd> {
    let lostAt: number | null = null;
    for (; ; await sleep(this.#times.pollEvery)) {
      try {
        await this.#watch.look();
        lostAt = null;
      } catch (error) {
        if (lostAt === null) this.#tell(`the cluster does not answer, trying again: ${(error as Error).message}`);
        lostAt ??= Date.now();
        if (Date.now() - lostAt < this.#times.unreachable) continue;
        return this.#ending(
          `the cluster did not answer for ${this.#times.unreachable / 1000} s; the run may go on there`,
        );
      }
      const { end, result } = this.#watch;
      if (end === null) continue;
      await this.#removeEtcd().catch(() => undefined);
      return this.#ending(result === null ? this.#why(end.message) : null);
    }
  }

  /** Who resumes finds its volumes; the pods would only wait there. */
  async #removeEtcd(): Promise<void> {
    if (this.#parts.options.etcd === 0) return;
    const name = this.#parts.names.etcd;
    await this.#api.remove({ apiVersion: 'apps/v1', kind: 'StatefulSet', name }, 'Background');
  }

  #ending(why: string | null): RunEnd {
    const code = this.#watch.scheduler?.exitCode ?? (this.#watch.result?.state === 'FAILED' ? 1 : 0);
    const exit = { code, signal: null };
    if (why === null) return { schedulerExit: exit, loss: null };
    const output = [why, ...this.#watch.lines.slice(-20)];
    return { schedulerExit: exit, loss: { role: 'scheduler', rank: 0, exit, output, schedulerEnded: true } };
  }

  async #kill(): Promise<void> {
    await this.#api.remove({ ...JOB_SET, name: this.#parts.names.jobSet }, 'Background');
  }
}

/** A process that exits cannot wait for an answer; another one can. */
function deleteFromExit({ context, namespace }: ClusterApi, name: string): void {
  const file = isCompiled ? './kubernetes/delete-main.js' : './kubernetes/delete-main.ts';
  const loader = isCompiled ? [] : ['--import', import.meta.resolve('tsx')];
  const main = fileURLToPath(import.meta.resolve(file));
  spawnSync(process.execPath, [...loader, main, context, namespace, name], { stdio: 'ignore', timeout: 15_000 });
}
