import type { Role, RunResult, RunStatus } from '../../../shared/telemetry/run-status.ts';
import type { ClusterApi } from './api.ts';
import { describeReadiness, type PodState, podState } from './explain.ts';
import { JOB_SET } from './job-set.ts';
import { labelsOf, type RunNames } from './names.ts';
import { parsePodEvent } from './pod-events.ts';
import { PodLog } from './pod-log.ts';
import { jobSetEnd } from './submit.ts';

/** Lines of a role's own that are kept for who asks how it ended. */
const KEPT_LINES = 50;

export interface WatchHooks {
  /** One line each: what a pod waits for or died of, and how many are ready. */
  readonly tell?: (line: string) => void;
  readonly onStatus?: (status: RunStatus) => Promise<void> | void;
  readonly onResult?: (result: RunResult) => Promise<void> | void;
  /** Only the last lines of the scheduler's log, at the first look; 0: none at all, ever. Default: all. */
  readonly tailLines?: number | undefined;
}

/** What is seen of a run from outside its cluster, look by look. */
export class RunWatch {
  readonly #api: ClusterApi;
  readonly #names: RunNames;
  readonly #sizes: Readonly<Record<Role, number>>;
  readonly #hooks: WatchHooks;
  #pods: readonly PodState[] = [];
  #log: PodLog | null = null;
  #readiness = '';
  readonly #told = new Set<string>();
  readonly #lines: string[] = [];
  #listening: { readonly address: string; readonly generation: number } | null = null;
  #status: RunStatus | null = null;
  #result: RunResult | null = null;
  #end: { readonly failed: boolean; readonly message: string } | null = null;

  constructor(api: ClusterApi, names: RunNames, sizes: Readonly<Record<Role, number>>, hooks: WatchHooks) {
    this.#api = api;
    this.#names = names;
    this.#sizes = sizes;
    this.#hooks = hooks;
  }

  /** Of each role and rank the newest. */
  get pods(): readonly PodState[] {
    return this.#pods;
  }
  get listening(): { readonly address: string; readonly generation: number } | null {
    return this.#listening;
  }
  get status(): RunStatus | null {
    return this.#status;
  }
  get result(): RunResult | null {
    return this.#result;
  }
  /** How the JobSet ended; also where it was deleted. Null while it goes on. */
  get end(): { readonly failed: boolean; readonly message: string } | null {
    return this.#end;
  }
  /** The last lines that the scheduler's pod printed, its events left out. */
  get lines(): readonly string[] {
    return this.#lines;
  }
  get scheduler(): PodState | null {
    return this.#pods.find(({ role }) => role === 'scheduler') ?? null;
  }

  /** One look at JobSet, pods and the scheduler's log. Errors: what the API gives. */
  async look(): Promise<void> {
    // Before the pods and their logs: what was printed before the end is then read.
    const jobSet = await this.#api.read({ ...JOB_SET, name: this.#names.jobSet });
    const states = (await this.#api.pods(labelsOf(this.#names))).flatMap((pod) => podState(pod) ?? []);
    for (const state of states) this.#tellProblem(state);
    this.#pods = newest(states);
    const readiness = describeReadiness(this.#pods, this.#sizes);
    if (this.#pods.length > 0 && readiness !== this.#readiness && jobSet !== null && jobSetEnd(jobSet) === null)
      this.#hooks.tell?.(readiness);
    this.#readiness = readiness;
    await this.#readLog();
    this.#end =
      jobSet === null ? { failed: true, message: `JobSet ${this.#names.jobSet} was deleted` } : jobSetEnd(jobSet);
  }

  #tellProblem({ name, role, rank, problem }: PodState): void {
    if (problem === null) return;
    const line = `${role}[${rank}] ${problem.message} [${problem.reason}]`;
    // A replaced pod may meet the same again, which is news.
    if (this.#told.has(name + line)) return;
    this.#told.add(name + line);
    this.#hooks.tell?.(line);
  }

  async #readLog(): Promise<void> {
    const { scheduler } = this;
    const { tailLines } = this.#hooks;
    if (scheduler === null || scheduler.phase === 'Pending' || tailLines === 0) return;
    if (this.#log?.pod !== scheduler.name) this.#log = new PodLog(this.#api, scheduler.name, tailLines);
    for (const { text } of await this.#log.read()) {
      const event = parsePodEvent(text);
      if (event === null) {
        this.#lines.push(text);
        if (this.#lines.length > KEPT_LINES) this.#lines.shift();
      } else if (event.event === 'listening') this.#listening = event;
      else if (event.event === 'status') {
        this.#status = event.status;
        await this.#hooks.onStatus?.(event.status);
      } else {
        this.#result = event.result;
        await this.#hooks.onResult?.(event.result);
      }
    }
  }
}

function newest(states: readonly PodState[]): PodState[] {
  const found = new Map<string, PodState>();
  for (const state of states) {
    const key = `${state.role} ${state.rank}`;
    const known = found.get(key);
    if (known === undefined || known.createdAt <= state.createdAt) found.set(key, state);
  }
  const order: readonly Role[] = ['scheduler', 'server', 'worker'];
  return [...found.values()].sort((a, b) => order.indexOf(a.role) - order.indexOf(b.role) || a.rank - b.rank);
}
