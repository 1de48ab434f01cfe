import { hostname } from 'node:os';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import type { Directive__Output } from '../../protos/generated/whittle/Directive.ts';
import type { Report } from '../../protos/generated/whittle/Report.ts';
import type { Welcome__Output } from '../../protos/generated/whittle/Welcome.ts';
import type { SchedulerClient } from '../../protos/generated/whittle/Scheduler.ts';
import { WhittleError } from '../errors.ts';
import { withDeadline } from './deadline.ts';

export interface SessionOptions {
  readonly client: SchedulerClient;
  /** The scheduler's address, for messages. */
  readonly schedulerAddress: string;
  readonly role: 'server' | 'worker';
  /** Wanted rank, or null: the scheduler gives one. */
  readonly rank: number | null;
  /** Where other members reach this one; empty for members that nobody calls. */
  readonly address: string;
  readonly runId: string;
  /** Clock to report in heartbeats. */
  readonly clock: () => number;
  readonly onDirective: (directive: Directive__Output) => void;
}

/** Ranks are sent as this when the member has none yet. */
export const NO_RANK = 0xffff_ffff;
const WELCOME_DEADLINE_MS = 30_000;

/** A member's side of the Session rpc: registers, beats, reports, hands directives on in order. */
export class MemberSession {
  readonly #stream: ClientDuplexStream<Report, Directive__Output>;
  readonly #options: SessionOptions;
  #heartbeat: NodeJS.Timeout | null = null;
  #ended = false;
  /** Resolves with the scheduler's last word: null after a clean end, else why the session broke. */
  readonly closed: Promise<WhittleError | null>;
  readonly welcome: Promise<Welcome__Output>;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#stream = options.client.session();
    let welcomed: (welcome: Welcome__Output) => void = () => undefined;
    const welcome = new Promise<Welcome__Output>((resolve) => (welcomed = resolve));
    this.closed = new Promise((resolve) => {
      const lost = (detail: string): WhittleError =>
        new WhittleError('ROLE_LOST', `lost the scheduler at ${options.schedulerAddress}: ${detail}`, {
          retryable: true,
        });
      this.#stream.on('error', (error: Error) => this.#end(resolve, lost(error.message)));
      this.#stream.on('end', () => this.#end(resolve, null));
      this.#stream.on('close', () => this.#end(resolve, lost('the connection closed')));
    });
    this.welcome = withDeadline(
      Promise.race([
        welcome,
        this.closed.then((error) => {
          throw error ?? new WhittleError('ROLE_LOST', 'the scheduler ended the session before it began');
        }),
      ]),
      WELCOME_DEADLINE_MS,
      `the scheduler at ${options.schedulerAddress} to admit this ${options.role}`,
    );
    this.welcome.catch(() => undefined);
    this.#stream.on('data', (directive: Directive__Output) => {
      if (directive.welcome) {
        this.#beat(directive.welcome.heartbeatMilliseconds);
        welcomed(directive.welcome);
      } else options.onDirective(directive);
    });
    this.report({
      register: {
        role: options.role,
        rank: options.rank ?? NO_RANK,
        address: options.address,
        runId: options.runId,
        pid: process.pid,
        host: hostname(),
      },
    });
  }

  report(report: Report): void {
    if (!this.#ended) this.#stream.write(report);
  }

  /** Says why this member cannot go on; the scheduler ends the run. */
  fail(error: WhittleError, step: number): void {
    this.report({
      failure: {
        code: error.code,
        message: error.rawMessage,
        stack: error.isUserError ? '' : ((error.cause instanceof Error ? error.cause.stack : error.stack) ?? ''),
        step,
        data: JSON.stringify(error.data),
      },
    });
  }

  /** Leaves on purpose and closes this side. */
  leave(reason: string): void {
    this.report({ goodbye: { reason } });
    this.#ended = true;
    if (this.#heartbeat) clearInterval(this.#heartbeat);
    this.#stream.end();
  }

  #beat(milliseconds: number): void {
    this.#heartbeat = setInterval(() => {
      this.report({ heartbeat: { clock: this.#options.clock(), rssBytes: process.memoryUsage.rss() } });
    }, milliseconds);
  }

  #end(resolve: (error: WhittleError | null) => void, error: WhittleError | null): void {
    this.#ended = true;
    if (this.#heartbeat) clearInterval(this.#heartbeat);
    resolve(error);
  }
}
