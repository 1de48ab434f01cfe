import { hostname } from 'node:os';
import { type ClientDuplexStream, type ServiceError, status } from '@grpc/grpc-js';
import type { Directive__Output } from '../../protos/generated/whittle/Directive.ts';
import type { Report } from '../../protos/generated/whittle/Report.ts';
import type { SchedulerClient } from '../../protos/generated/whittle/Scheduler.ts';
import type { Welcome__Output } from '../../protos/generated/whittle/Welcome.ts';
import { WhittleError } from '../errors.ts';
import { schedulerClient } from './client.ts';
import { withDeadline } from './deadline.ts';

/** What a member still takes part in when it registers: a scheduler that takes over carries on from it. */
export interface MemberState {
  /** 0: none yet. */
  readonly generation: number;
  readonly clock: number;
  /** Server: JSON of the HeldShard; empty otherwise. */
  readonly heldShard: string;
}

export interface SessionOptions {
  readonly role: 'server' | 'worker';
  /** Wanted rank, or null: the scheduler gives one. */
  readonly rank: number | null;
  /** Where other members reach this one; empty for members that nobody calls. */
  readonly address: string;
  readonly runId: string;
  /** Where the scheduler is now, `host:port`; asked before every attempt. Null: not known (yet). */
  readonly locate: () => Promise<string | null>;
  readonly state: () => MemberState;
  /** Clock to report in heartbeats. */
  readonly clock: () => number;
  /** Admitted, the first time or again after the scheduler was lost; before any directive of the new session. */
  readonly onWelcome?: (welcome: Welcome__Output) => void;
  readonly onDirective: (directive: Directive__Output) => void;
  /** What happens to the session, for the log. */
  readonly onNote?: (message: string) => void;
  /** How long a member goes on without a scheduler. */
  readonly orphanAfterMilliseconds: () => number;
}

/** Ranks are sent as this when the member has none yet. */
export const NO_RANK = 0xffff_ffff;
const WELCOME_DEADLINE_MS = 10_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;

/** Refusals that a scheduler may take back: it has not noticed yet that an earlier session of this rank is over, or is starting. */
const PASSING = new Set([
  status.UNAVAILABLE,
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.ALREADY_EXISTS,
  status.ABORTED,
]);

interface Attempt {
  readonly client: SchedulerClient;
  readonly stream: ClientDuplexStream<Report, Directive__Output>;
  readonly address: string;
}

/**
 * A member's side of the Session rpc: registers, beats, reports, hands directives on in order. A lost scheduler only
 * interrupts it: the member looks for the scheduler again and again, registers with what it holds, and goes on.
 */
export class MemberSession {
  readonly #options: SessionOptions;
  #attempt: Attempt | null = null;
  #admitted = false;
  #finishing = false;
  #over = false;
  #rank: number | null;
  #heartbeat: NodeJS.Timeout | null = null;
  readonly #stop = new AbortController();
  #resolveClosed: (reason: WhittleError | null) => void = () => undefined;
  #resolveWelcome: (welcome: Welcome__Output) => void = () => undefined;
  /** Null when the scheduler ended the session in order or this member left, else why it is over for good. */
  readonly closed: Promise<WhittleError | null>;
  /** The first admission. */
  readonly welcome: Promise<Welcome__Output>;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#rank = options.rank;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    const admitted = new Promise<Welcome__Output>((resolve) => (this.#resolveWelcome = resolve));
    this.welcome = Promise.race([
      admitted,
      this.closed.then((error) => {
        throw error ?? new WhittleError('ROLE_LOST', 'the scheduler ended the session before it began');
      }),
    ]);
    this.welcome.catch(() => undefined);
    void this.#keep();
  }

  /** Whether a scheduler hears this member now. */
  get connected(): boolean {
    return this.#admitted;
  }

  /** Hands a report to the scheduler; false where there is none now, and the report is lost. */
  report(report: Report): boolean {
    if (!this.#admitted || !this.#attempt || this.#attempt.stream.writableEnded) return false;
    this.#attempt.stream.write(report);
    return true;
  }

  /** Says why this member cannot go on; the scheduler ends the run. False where nobody hears it. */
  fail(error: WhittleError, step: number): boolean {
    return this.report({
      failure: {
        code: error.code,
        message: error.rawMessage,
        stack: error.isUserError ? '' : ((error.cause instanceof Error ? error.cause.stack : error.stack) ?? ''),
        step,
        data: JSON.stringify(error.data),
      },
    });
  }

  /** Drops the session and looks for the scheduler anew: another one holds the office. */
  relocate(): void {
    if (this.#attempt) this.#attempt.stream.cancel();
  }

  /** Leaves on purpose and closes this side. */
  leave(reason: string): void {
    this.report({ goodbye: { reason } });
    this.#attempt?.stream.end();
    this.#end(null);
  }

  async #keep(): Promise<void> {
    let lostAt = performance.now();
    let pause = FIRST_PAUSE_MS;
    while (!this.#over) {
      const reason = await this.#once(() => {
        pause = FIRST_PAUSE_MS;
      });
      if (this.#over) return;
      if (reason === null) return this.#end(null);
      if (this.#admitted) {
        this.#admitted = false;
        lostAt = performance.now();
        this.#options.onNote?.(`${reason.error.rawMessage}; going on and looking for it`);
      }
      if (!reason.passing) return this.#end(reason.error);
      const limit = this.#options.orphanAfterMilliseconds();
      if (performance.now() - lostAt > limit) {
        const { role } = this.#options;
        const message = `waited ${Math.round(limit / 1000)} s for a scheduler to admit this ${role}: ${reason.error.rawMessage}`;
        return this.#end(new WhittleError('ROLE_LOST', message, { cause: reason.error }));
      }
      await this.#pause(pause);
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    }
  }

  /** One session from connecting to its end; null after an end in order. */
  async #once(onAdmitted: () => void): Promise<{ readonly error: WhittleError; readonly passing: boolean } | null> {
    const address = await this.#options.locate().catch(() => null);
    if (address === null) return { error: new WhittleError('ROLE_LOST', 'no scheduler holds the run'), passing: true };
    if (this.#over) return null;
    const client = schedulerClient(address);
    const stream = client.session();
    this.#attempt = { client, stream, address };
    const lost = (detail: string): WhittleError =>
      new WhittleError('ROLE_LOST', `lost the scheduler at ${address}: ${detail}`, { retryable: true });
    let admit: () => void = () => undefined;
    const admitted = new Promise<void>((resolve) => (admit = resolve));
    const ended = new Promise<{ error: WhittleError; passing: boolean } | null>((resolve) => {
      stream.on('error', (error: ServiceError) =>
        resolve({ error: lost(error.details || error.message), passing: PASSING.has(error.code) }),
      );
      stream.on('end', () => resolve(this.#finishing ? null : { error: lost('it ended the session'), passing: true }));
      stream.on('close', () => resolve({ error: lost('the connection closed'), passing: true }));
    });
    stream.on('data', (directive: Directive__Output) => {
      if (directive.welcome) {
        this.#rank = directive.welcome.rank;
        this.#admitted = true;
        this.#beat(directive.welcome.heartbeatMilliseconds);
        onAdmitted();
        admit();
        this.#options.onWelcome?.(directive.welcome);
        this.#resolveWelcome(directive.welcome);
        return;
      }
      if (directive.finish) this.#finishing = true;
      this.#options.onDirective(directive);
    });
    stream.write({ register: this.#registration() });
    try {
      await withDeadline(
        Promise.race([admitted, ended]),
        WELCOME_DEADLINE_MS,
        `the scheduler at ${address} to admit this ${this.#options.role}`,
      );
      return await ended;
    } catch (reason) {
      stream.cancel();
      return { error: WhittleError.from(reason), passing: true };
    } finally {
      if (this.#heartbeat) clearInterval(this.#heartbeat);
      client.close();
    }
  }

  #registration(): NonNullable<Report['register']> {
    const { role, address, runId } = this.#options;
    const { generation, clock, heldShard } = this.#options.state();
    return {
      role,
      rank: this.#rank ?? NO_RANK,
      address,
      runId,
      pid: process.pid,
      host: hostname(),
      generation,
      clock,
      heldShard,
    };
  }

  #beat(milliseconds: number): void {
    if (this.#heartbeat) clearInterval(this.#heartbeat);
    this.#heartbeat = setInterval(() => {
      this.report({ heartbeat: { clock: this.#options.clock(), rssBytes: process.memoryUsage.rss() } });
    }, milliseconds);
  }

  /** Waits, unless the session is over. */
  #pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#stop.signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      this.#stop.signal.addEventListener('abort', done, { once: true });
    });
  }

  #end(reason: WhittleError | null): void {
    this.#over = true;
    this.#admitted = false;
    if (this.#heartbeat) clearInterval(this.#heartbeat);
    this.#stop.abort();
    this.#resolveClosed(reason);
  }
}
