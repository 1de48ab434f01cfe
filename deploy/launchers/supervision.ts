import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { WhittleError } from '../../shared/errors.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { Role } from '../../shared/telemetry/run-status.ts';
import { endAll, within } from './end-all.ts';
import { describeExit, type LaunchPlan, type RoleExit, type RunEnd } from './launcher.ts';
import { waitForListening } from './listening.ts';
import { lastLines, type RoleProcess } from './role-process.ts';
import { reportExit } from './role-report.ts';
import type { RoleHost, SuperviseDeadlines } from './role-host.ts';

export interface SupervisionOptions {
  readonly plan: LaunchPlan;
  /** Once aborted, the run is stopping and nothing is started again. */
  readonly signal: AbortSignal;
  readonly host: RoleHost;
  readonly deadlines: SuperviseDeadlines;
  readonly tell: (line: string) => void;
  /** Where the scheduler is now, by the run directory. */
  readonly locate: () => Promise<string | null>;
}

/** A role's place in the run: the process that fills it now, and how often it was filled again. */
interface Post {
  readonly role: Role;
  readonly rank: number;
  process: RoleProcess;
  restarts: number;
  /** Nobody will fill it again. */
  vacant: boolean;
}

/** Milliseconds. The longest pause before a restart, and how long the lock of a dead scheduler may hold up the next. */
const LONGEST_BACKOFF = 10_000;
const LOCKED_EVERY = 1_000;
const LOCKED_DEADLINE = 30_000;

/**
 * Watches over the processes of one run. A run is over when its scheduler wrote the result, or ended without one and
 * is not started again. A process that ended before is judged: by a signal or an unknown code it died; with code 0 it
 * left and with 1 it reported a failure, which is a death only where the scheduler does not end the run for it.
 */
export class Supervision {
  schedulerAddress = '';
  readonly #options: SupervisionOptions;
  readonly #directory: RunDirectory;
  readonly #posts: Post[] = [];
  readonly #processes = new Set<RoleProcess>();
  /** Starts and reports under way. */
  readonly #pending = new Set<Promise<unknown>>();
  readonly #over = new AbortController();
  readonly #isOver = new Promise<void>((resolve) => this.#over.signal.addEventListener('abort', () => resolve()));
  #schedulerExit: RoleExit = { code: null, signal: null };
  /** False where the supervisor had to end the scheduler. */
  #schedulerEnded = true;
  #killed = false;
  #restarts = 0;
  /** The first death that nothing made good. */
  #loss: { readonly process: RoleProcess; readonly exit: RoleExit } | null = null;

  constructor(options: SupervisionOptions) {
    this.#options = options;
    this.#directory = new RunDirectory(options.plan.runDirectory);
  }

  /** Those that run. */
  processes(): RoleProcess[] {
    return [...this.#processes].filter((each) => each.ended() === null);
  }

  /** Starts a role for the first time. Rejects when that cannot be done. */
  async start(role: Role, rank: number, args: readonly string[]): Promise<RoleProcess> {
    const process = await this.#spawn(role, rank, args);
    this.#posts.push({ role, rank, process, restarts: 0, vacant: false });
    return process;
  }

  kill(): void {
    this.#killed = true;
    for (const each of this.#processes) each.kill('SIGKILL');
  }

  /** Keeps the posts filled until the run is over; resolves, never rejects, when every process is reaped. */
  async watch(): Promise<RunEnd> {
    const { deadlines } = this.#options;
    for (const post of this.#posts) void this.#keep(post);
    await this.#isOver;
    await Promise.allSettled(this.#pending);
    const all = Promise.all(this.processes().map((each) => each.exit));
    if (this.#schedulerEnded && this.#schedulerExit.code === 0) await within(deadlines.leaving, all);
    else if (this.#schedulerExit.code === 1) await within(deadlines.terminate, all);
    await endAll(this.processes(), deadlines.terminate);

    const lost = this.#loss;
    const schedulerExit = this.#schedulerExit;
    if (lost === null || (lost.exit.code === 0 && this.#schedulerEnded)) return { schedulerExit, loss: null };
    const { process, exit } = lost;
    const output = lastLines(await process.output().catch(() => ''), 20);
    const { role, rank } = process;
    return { schedulerExit, loss: { role, rank, exit, output, schedulerEnded: this.#schedulerEnded } };
  }

  async #spawn(role: Role, rank: number, args: readonly string[]): Promise<RoleProcess> {
    const { plan, host } = this.#options;
    const process = await host.start({
      role,
      rank,
      args: ['--run-dir', plan.runDirectory, ...args],
      outputFile: join(plan.runDirectory, 'logs', `${role}-${rank}.out`),
    });
    this.#processes.add(process);
    void process.exit.then(() => this.#processes.delete(process));
    if (this.#killed) process.kill('SIGKILL');
    return process;
  }

  /** One post's life: its process ends, is judged, and is replaced or not. */
  async #keep(post: Post): Promise<void> {
    for (;;) {
      const exit = await post.process.exit;
      if (this.#over.signal.aborted) return;
      const died = post.role === 'scheduler' ? this.#schedulerDied(post, exit) : await this.#memberDied(post, exit);
      if (!died) return;
      const filling = this.#fill(post, exit);
      this.#pending.add(filling);
      const filled = await filling.finally(() => this.#pending.delete(filling));
      if (!filled) return;
    }
  }

  /** Ends the run where the scheduler did so. */
  #schedulerDied(post: Post, exit: RoleExit): boolean {
    const isLast = !this.#posts.some((each) => each !== post && each.role === 'scheduler' && !each.vacant);
    const reported = exit.code !== null && isReport(exit.code) && isLast;
    if (!this.#killed && !reported && this.#schedulerEnded && !this.#hasResult()) return true;
    this.#finish(post.process, exit);
    return false;
  }

  async #memberDied(post: Post, exit: RoleExit): Promise<boolean> {
    const { deadlines, tell } = this.#options;
    const { leave, loss } = deadlines;
    this.#loss ??= { process: post.process, exit };
    // The scheduler ends the run for a failure that it was told of, and a member may see the end of the run first.
    if (exit.code !== null && isReport(exit.code)) await within(exit.code === 0 ? leave : loss, this.#isOver);
    if (this.#over.signal.aborted || this.#killed) return false;
    if (this.#hasResult()) {
      if (!(await within(deadlines.leaving, this.#isOver))) await this.#endSchedulers();
      return false;
    }
    if (exit.code === 0 && this.#canSpare(post)) {
      post.vacant = true;
      this.#madeGood(post.process);
      tell(`${nameOf(post)} left; ${this.#others(post)} workers go on`);
      return false;
    }
    return true;
  }

  /** Starts a process for a dead one, again and again until one runs; false when there will be none. */
  async #fill(post: Post, exit: RoleExit): Promise<boolean> {
    const { plan, signal, deadlines, tell } = this.#options;
    const dead = post.process;
    let how = shortExit(exit);
    for (;;) {
      if (signal.aborted || this.#restarts >= plan.maxRestarts) {
        await this.#giveUp(post, exit, how);
        return false;
      }
      const count = ++this.#restarts;
      this.#report(post, how, true);
      await this.#sleep(Math.min(LONGEST_BACKOFF, deadlines.backoff * 2 ** post.restarts++));
      if (this.#isAbandoned(post, exit)) return false;
      try {
        if (post.role === 'scheduler') post.process = await this.#succeed(post);
        else post.process = await this.#spawn(post.role, post.rank, memberArguments(await this.#address(), post.rank));
        this.#madeGood(dead);
        tell(`${nameOf(post)} ${how}; started again (${count} of ${plan.maxRestarts})`);
        return true;
      } catch (reason) {
        if (this.#isAbandoned(post, exit)) return false;
        how = `could not be started again: ${WhittleError.from(reason).rawMessage}`;
        tell(`${nameOf(post)} ${how}`);
      }
    }
  }

  /** True when there is no use in filling a post; a scheduler that nobody follows is the end. */
  #isAbandoned(post: Post, exit: RoleExit): boolean {
    if (this.#killed && post.role === 'scheduler') this.#finish(post.process, exit);
    return this.#killed || this.#over.signal.aborted;
  }

  /** Starts a scheduler that goes on where the last one ended, on its port if that can be had. */
  async #succeed(post: Post): Promise<RoleProcess> {
    const { deadlines } = this.#options;
    const elects = this.#posts.some((each) => each !== post && each.role === 'scheduler' && !each.vacant);
    let port = elects ? 0 : Number(this.schedulerAddress.split(':').at(-1));
    for (const end = Date.now() + LOCKED_DEADLINE; ;) {
      const process = await this.#spawn('scheduler', post.rank, standbyArguments(post.rank, port));
      if (elects) return process;
      try {
        this.schedulerAddress = (await waitForListening(process, deadlines.listening, this.#over.signal)).address;
        return process;
      } catch (reason) {
        await endAll([process], deadlines.terminate);
        const { code } = WhittleError.from(reason);
        // A dead holder on another host is known as dead only when its lock was not refreshed for a while.
        if (code === 'RUN_LOCKED' && Date.now() < end) await this.#sleep(LOCKED_EVERY);
        else if (code === 'PORT' && port !== 0) port = 0;
        else throw reason;
      }
    }
  }

  async #giveUp(post: Post, exit: RoleExit, how: string): Promise<void> {
    const { plan, signal, deadlines, tell } = this.#options;
    post.vacant = true;
    const used = plan.maxRestarts === 0 || signal.aborted ? '' : `; all ${plan.maxRestarts} restarts are used up`;
    if (post.role === 'scheduler') {
      if (used !== '') tell(`${nameOf(post)} ${how}${used}`);
      if (!this.#posts.some((each) => each.role === 'scheduler' && !each.vacant)) this.#finish(post.process, exit);
      return;
    }
    this.#report(post, `${how}${used}`, false);
    if (this.#canSpare(post)) {
      this.#madeGood(post.process);
      tell(`${nameOf(post)} ${how}${used}; ${this.#others(post)} workers go on`);
      return;
    }
    if (used !== '') tell(`${nameOf(post)} ${how}${used}`);
    if (!(await within(deadlines.loss, this.#isOver))) await this.#endSchedulers();
  }

  async #endSchedulers(): Promise<void> {
    this.#schedulerEnded = false;
    const schedulers = this.processes().filter(({ role }) => role === 'scheduler');
    await endAll(schedulers, this.#options.deadlines.terminate);
  }

  #finish(scheduler: RoleProcess, exit: RoleExit): void {
    if (this.#over.signal.aborted) return;
    this.#schedulerExit = exit;
    // Members end when the scheduler is killed, and may be seen to end before it.
    if ((exit.signal !== null && this.#schedulerEnded) || this.#loss === null)
      this.#loss = { process: scheduler, exit };
    this.#over.abort();
  }

  #madeGood(process: RoleProcess): void {
    if (this.#loss?.process === process) this.#loss = null;
  }

  #report(post: Post, message: string, replaced: boolean): void {
    const report = reportExit(
      () => this.#address(),
      { role: post.role, rank: post.rank, message: `${nameOf(post)} ${message}`, replaced },
      this.#over.signal,
    );
    this.#pending.add(report);
    void report.finally(() => this.#pending.delete(report));
  }

  async #address(): Promise<string> {
    return (await this.#options.locate()) ?? this.schedulerAddress;
  }

  #canSpare(post: Post): boolean {
    return post.role === 'worker' && this.#others(post) >= this.#options.plan.minWorkers;
  }

  #others(post: Post): number {
    return this.#posts.filter((each) => each !== post && each.role === 'worker' && !each.vacant).length;
  }

  #hasResult(): boolean {
    return existsSync(this.#directory.resultFile);
  }

  async #sleep(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.#over.signal }).catch(() => undefined);
  }
}

/** Exit codes of a role that left when told to (0), or failed and said why (1, and 2 for a mistake of the user's). */
function isReport(code: number): boolean {
  return code >= 0 && code <= 2;
}

function nameOf({ role, rank }: { readonly role: Role; readonly rank: number }): string {
  return `${role}[${rank}]`;
}

function shortExit(exit: RoleExit): string {
  return exit.signal === null ? describeExit(exit) : `was killed by ${exit.signal}`;
}

/** What a scheduler is told that goes on where another ended, or waits for that. */
export function standbyArguments(rank: number, port = 0): string[] {
  return ['--port', String(port), '--recover', ...(rank === 0 ? [] : ['--rank', String(rank)])];
}

export function memberArguments(schedulerAddress: string, rank: number): string[] {
  return ['--scheduler', schedulerAddress, '--rank', String(rank)];
}
