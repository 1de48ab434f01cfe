import { appendFileSync, closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseRunConfig } from '../../shared/config/effective.ts';
import { type Fault, type FaultTarget, parseFaults } from '../../shared/config/faults.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import { errorCode } from '../../shared/checkpoint/durable.ts';
import {
  FAILPOINTS,
  FAILPOINTS_FOLDER_VARIABLE,
  FAILPOINTS_VARIABLE,
  firedFile,
  formatFailpoint,
  releaseFailpoint,
} from '../../shared/telemetry/failpoints.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { StepMetrics } from '../../shared/telemetry/run-status.ts';
import { PartitionProxies } from './faults-proxy.ts';
import type { LaunchedRun } from './launcher.ts';

/** How often it is looked whether a step or failpoint was reached, in milliseconds. */
const POLL_MS = 20;
/** Longest wait for a target that is just being started again. */
const TARGET_DEADLINE_MS = 30_000;
/** Bytes from the end of metrics.jsonl that hold its last line. */
const TAIL_BYTES = 4096;

/** Folder of a run directory: what fired, and what the injector did (`injected.jsonl`). */
export const FAULTS_FOLDER = 'faults';

/** One fault that was made, a line of `faults/injected.jsonl`. */
export interface InjectedFault {
  /** Index in the script. */
  readonly fault: number;
  readonly line: string;
  readonly pid: number;
  /** Last step that the run had completed by then, as far as its metrics told. */
  readonly step: number;
  readonly at: number;
}

/** Environment of each role's process, by `role[rank]`. */
export type RoleEnvironment = Readonly<Record<string, Readonly<Record<string, string>>>>;

/**
 * Makes the faults of a run's script, from the launcher's process. A fault is made once in the life of a run
 * directory, also when roles are started again or the run is resumed.
 *
 * At a failpoint the process that passes it kills itself, or stands still until the fault is made; so these are exact.
 * Steps are followed in metrics.jsonl, which lags by a fraction of a second. A partition holds every byte between
 * the target and all others in proxies through which the roles of such a run reach each other.
 */
export class FaultInjector {
  readonly environment: RoleEnvironment;
  readonly #faults: readonly Fault[];
  readonly #lines: readonly string[];
  readonly #directory: RunDirectory;
  readonly #folder: string;
  readonly #proxies: PartitionProxies | null;
  readonly #over = new AbortController();
  readonly #making = new Set<Promise<void>>();
  /** Processes that stand still by a fault. */
  readonly #stopped = new Set<number>();
  #following: Promise<void> = Promise.resolve();
  #step = 0;

  private constructor(directory: RunDirectory, config: RunConfig, proxies: PartitionProxies | null) {
    const { servers, workers } = config.cluster;
    this.#directory = directory;
    this.#folder = join(directory.path, FAULTS_FOLDER);
    this.#lines = config.faults ?? [];
    this.#faults = parseFaults(this.#lines, { servers, workers: workers.max });
    this.#proxies = proxies;
    this.environment = this.#environment(servers, workers.max);
  }

  /** Null where the run has no faults. Errors: RUN_FILE. */
  static async open(runDirectory: string): Promise<FaultInjector | null> {
    const directory = new RunDirectory(runDirectory);
    const text = await readFile(directory.runFile, 'utf8').catch((error: unknown) => {
      if (errorCode(error) === 'ENOENT') return null;
      throw error;
    });
    if (text === null || !/^faults:/m.test(text)) return null;
    const config = parseRunConfig(text, directory.runFile);
    const lines = config.faults ?? [];
    if (lines.length === 0) return null;
    const { servers, workers } = config.cluster;
    const roles = { servers, workers: workers.max };
    const needsProxies = parseFaults(lines, roles).some(({ action }) => action === 'partition');
    const proxies = needsProxies ? await PartitionProxies.listen(everyRole(servers, workers.max).map(nameOf)) : null;
    return new FaultInjector(directory, config, proxies);
  }

  /** Begins to make faults. `run.processes` is read anew at each fault. */
  start(run: LaunchedRun): void {
    mkdirSync(this.#folder, { recursive: true });
    this.#following = this.#follow(run);
  }

  /** Ends what is under way: what stands still goes on. */
  async close(): Promise<void> {
    this.#over.abort();
    await this.#following;
    await Promise.all(this.#making);
    for (const pid of this.#stopped) signalProcess(pid, 'SIGCONT');
    await this.#proxies?.close();
  }

  #environment(servers: number, workers: number): RoleEnvironment {
    const armed = new Map<string, string[]>();
    this.#faults.forEach(({ trigger, action, target }, i) => {
      if (trigger.kind !== 'failpoint') return;
      const { role } = FAILPOINTS[trigger.name];
      const holders =
        trigger.at !== null
          ? [trigger.at]
          : target.role === role
            ? [target]
            : everyRole(servers, workers).filter((each) => each.role === role);
      const itself = holders.length === 1 && nameOf(holders[0]!) === nameOf(target);
      const text = formatFailpoint({
        id: idOf(i),
        name: trigger.name,
        hit: trigger.hit,
        step: trigger.step,
        action: { kind: itself && action === 'kill' ? 'kill' : 'block' },
      });
      for (const holder of holders) armed.set(nameOf(holder), [...(armed.get(nameOf(holder)) ?? []), text]);
    });
    return Object.fromEntries(
      everyRole(servers, workers).map((role) => {
        const name = nameOf(role);
        const points = armed.get(name);
        return [
          name,
          {
            ...(points === undefined
              ? {}
              : { [FAILPOINTS_VARIABLE]: points.join('; '), [FAILPOINTS_FOLDER_VARIABLE]: this.#folder }),
            ...this.#proxies?.environmentOf(name),
          },
        ];
      }),
    );
  }

  async #follow(run: LaunchedRun): Promise<void> {
    const waiting = new Set(this.#faults.keys());
    for (const i of waiting) if (existsSync(firedFile(this.#folder, idOf(i)))) waiting.delete(i);
    while (waiting.size > 0 && !this.#over.signal.aborted) {
      this.#step = await lastStep(this.#directory.metrics.path);
      for (const i of waiting) {
        if (!this.#isDue(i)) continue;
        waiting.delete(i);
        const making = this.#make(run, i).finally(() => this.#making.delete(making));
        this.#making.add(making);
      }
      await this.#pause(POLL_MS);
    }
  }

  #isDue(i: number): boolean {
    const { trigger } = this.#faults[i]!;
    const fired = firedFile(this.#folder, idOf(i));
    if (trigger.kind === 'failpoint') return existsSync(fired);
    if (this.#step < trigger.step) return false;
    closeSync(openSync(fired, 'a'));
    return true;
  }

  async #make(run: LaunchedRun, i: number): Promise<void> {
    const { trigger, action, target, milliseconds } = this.#faults[i]!;
    const pid = await this.#processOf(run, target, trigger.kind === 'failpoint');
    const record: InjectedFault = { fault: i, line: this.#lines[i]!, pid, step: this.#step, at: Date.now() };
    appendFileSync(join(this.#folder, 'injected.jsonl'), `${JSON.stringify(record)}\n`);
    const release = (): void => releaseFailpoint(this.#folder, idOf(i));
    if (action === 'kill') {
      // At its own failpoint the target has done it itself, and a new process may have its place already.
      if (!this.#killsItself(i)) signalProcess(pid, 'SIGKILL');
      release();
    } else if (action === 'pause') {
      signalProcess(pid, 'SIGSTOP');
      this.#stopped.add(pid);
      release();
      await this.#pause(milliseconds);
      signalProcess(pid, 'SIGCONT');
      this.#stopped.delete(pid);
    } else {
      const heal = this.#proxies?.partition(nameOf(target), await this.#portsOf(run, target));
      release();
      await this.#pause(milliseconds);
      heal?.();
    }
  }

  #killsItself(i: number): boolean {
    const { trigger, target } = this.#faults[i]!;
    if (trigger.kind !== 'failpoint') return false;
    return trigger.at === null ? FAILPOINTS[trigger.name].role === target.role : nameOf(trigger.at) === nameOf(target);
  }

  /** Pid of a role; waits for one that is being started again. 0: there is none. */
  async #processOf(run: LaunchedRun, target: FaultTarget, atOnce: boolean): Promise<number> {
    for (const end = Date.now() + TARGET_DEADLINE_MS; ;) {
      const listed = run.processes.filter(({ role, rank }) => role === target.role && rank === target.rank).at(-1);
      if (listed !== undefined && isAlive(listed.pid)) return listed.pid;
      const told = await this.#told(target);
      if (told !== null && isAlive(told.pid)) return told.pid;
      if (atOnce || this.#over.signal.aborted || Date.now() > end) return told?.pid ?? listed?.pid ?? 0;
      await this.#pause(POLL_MS);
    }
  }

  async #portsOf(run: LaunchedRun, target: FaultTarget): Promise<readonly string[]> {
    const addresses = [(await this.#told(target))?.address, target.role === 'scheduler' ? run.schedulerAddress : ''];
    return addresses.flatMap((address) => (address ? [portOf(address)] : []));
  }

  /** What the run's own status says of a role. */
  async #told({ role, rank }: FaultTarget): Promise<{ pid: number; address: string } | null> {
    const status = await this.#directory.readStatus().catch(() => null);
    if (role === 'scheduler') return status?.scheduler ?? null;
    return status?.members.find((member) => member.role === role && member.rank === rank) ?? null;
  }

  /** Ends early when the run is over. */
  async #pause(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.#over.signal }).catch(() => undefined);
  }
}

/** `faults/injected.jsonl` of a run. */
export async function readInjected(runDirectory: string): Promise<InjectedFault[]> {
  const text = await readFile(join(runDirectory, FAULTS_FOLDER, 'injected.jsonl'), 'utf8').catch(() => '');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as InjectedFault);
}

export function nameOf({ role, rank }: FaultTarget): string {
  return `${role}[${rank}]`;
}

function idOf(fault: number): string {
  return `fault-${fault}`;
}

function everyRole(servers: number, workers: number): FaultTarget[] {
  const of = (role: 'server' | 'worker', count: number): FaultTarget[] =>
    Array.from({ length: count }, (_, rank) => ({ role, rank }));
  return [{ role: 'scheduler', rank: 0 }, ...of('server', servers), ...of('worker', workers)];
}

function portOf(address: string): string {
  return address.slice(address.lastIndexOf(':') + 1);
}

/** The step of the last whole line of metrics.jsonl; it may be cut back meanwhile. */
async function lastStep(path: string): Promise<number> {
  const file = await open(path, 'r').catch(() => null);
  if (file === null) return 0;
  try {
    const { size } = await file.stat();
    const buffer = Buffer.alloc(Math.min(size, TAIL_BYTES));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, size - buffer.length);
    const line = buffer.toString('utf8', 0, bytesRead).split('\n').at(-2);
    return line === undefined ? 0 : (JSON.parse(line) as StepMetrics).step;
  } catch {
    return 0;
  } finally {
    await file.close();
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  if (pid <= 1) return;
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended by itself.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
