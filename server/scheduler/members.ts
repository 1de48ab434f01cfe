import { type ServerDuplexStream, status } from '@grpc/grpc-js';
import type { Directive } from '../../protos/generated/whittle/Directive.ts';
import type { Register__Output } from '../../protos/generated/whittle/Register.ts';
import type { Report__Output } from '../../protos/generated/whittle/Report.ts';
import { WhittleError } from '../../shared/errors.ts';
import { NO_RANK } from '../../shared/rpc/member-session.ts';

export type MemberRole = 'server' | 'worker';

export interface Member {
  readonly role: MemberRole;
  readonly rank: number;
  readonly address: string;
  readonly pid: number;
  readonly host: string;
  readonly stream: ServerDuplexStream<Report__Output, Directive>;
  /** performance.now() of its last report. */
  lastHeard: number;
  clock: number;
  rssBytes: number;
  /** It said goodbye, or was told to finish: the end of its stream is no loss. */
  leaving: boolean;
}

export interface MembersOptions {
  readonly runId: string;
  readonly generation: number;
  readonly servers: number;
  readonly workers: number;
  /** JSON of the effective run file. */
  readonly runFile: string;
  readonly onJoined: (member: Member) => void;
  readonly onReport: (member: Member, report: Report__Output) => void;
  readonly onLost: (member: Member, error: WhittleError) => void;
}

export const HEARTBEAT_MS = 1_000;
/** Silence after which a member with an open connection counts as dead. */
const SILENCE_MS = 20_000;

/** Who takes part in the run: registration, heartbeats with a deadline, directives. */
export class Members {
  readonly #options: MembersOptions;
  readonly #members = new Map<string, Member>();

  constructor(options: MembersOptions) {
    this.#options = options;
  }

  /** Serves one Session stream: its first report registers the member. */
  accept(stream: ServerDuplexStream<Report__Output, Directive>): void {
    let member: Member | null = null;
    stream.on('data', (report: Report__Output) => {
      if (report.register) {
        if (!member) member = this.#register(report.register, stream);
        return;
      }
      if (!member) {
        stream.emit('error', { code: status.INVALID_ARGUMENT, details: 'the first report of a session must register' });
        return;
      }
      member.lastHeard = performance.now();
      if (report.heartbeat) {
        member.clock = report.heartbeat.clock;
        member.rssBytes = report.heartbeat.rssBytes;
      }
      if (report.goodbye) member.leaving = true;
      this.#options.onReport(member, report);
    });
    const gone = (detail: string): void => {
      if (member) this.#lost(member, detail);
      stream.end();
    };
    stream.on('end', () => gone('its connection ended'));
    stream.on('cancelled', () => gone('its connection broke (the process died or its host is unreachable)'));
    stream.on('error', (error) => gone(`its connection failed: ${error.message}`));
  }

  count(role: MemberRole): number {
    return this.of(role).length;
  }

  /** Members of a role by rank. */
  of(role: MemberRole): Member[] {
    return [...this.#members.values()].filter((member) => member.role === role).sort((a, b) => a.rank - b.rank);
  }

  all(): Member[] {
    return [...this.of('server'), ...this.of('worker')];
  }

  send(member: Member, directive: Directive): void {
    if (!member.stream.writableEnded && !member.stream.destroyed) member.stream.write(directive);
  }

  broadcast(role: MemberRole, directive: Directive): void {
    for (const member of this.of(role)) this.send(member, directive);
  }

  /** Declares members dead that were silent for too long. Called regularly. */
  checkSilence(): void {
    const now = performance.now();
    for (const member of this.all()) {
      const silence = now - member.lastHeard;
      if (silence > SILENCE_MS) this.#lost(member, `no heartbeat for ${Math.round(silence / 1000)} s`);
    }
  }

  /** Tells everyone that the run is over and closes the sessions. */
  finish(state: string, reason: string): void {
    for (const member of this.all()) {
      member.leaving = true;
      this.send(member, { finish: { state, reason } });
      member.stream.end();
    }
  }

  #register(register: Register__Output, stream: ServerDuplexStream<Report__Output, Directive>): Member | null {
    const refuse = (code: number, details: string): null => {
      stream.emit('error', { code, details });
      return null;
    };
    const { runId, servers, workers, generation, runFile } = this.#options;
    if (register.role !== 'server' && register.role !== 'worker') {
      return refuse(status.INVALID_ARGUMENT, `unknown role "${register.role}"; use server or worker`);
    }
    if (register.runId !== runId) {
      return refuse(status.FAILED_PRECONDITION, `this scheduler runs "${runId}", not "${register.runId}"`);
    }
    const wanted = register.role === 'server' ? servers : workers;
    const rank = register.rank === NO_RANK ? this.#freeRank(register.role, wanted) : register.rank;
    if (rank >= wanted) {
      return refuse(
        status.RESOURCE_EXHAUSTED,
        `${register.role}[${rank === Infinity ? 'next' : rank}] is not needed: the run has ${wanted} ${register.role}s`,
      );
    }
    if (this.#members.has(`${register.role}/${rank}`)) {
      return refuse(status.ALREADY_EXISTS, `${register.role}[${rank}] is registered already`);
    }
    const member: Member = {
      role: register.role,
      rank,
      address: register.address,
      pid: register.pid,
      host: register.host,
      stream,
      lastHeard: performance.now(),
      clock: 0,
      rssBytes: 0,
      leaving: false,
    };
    this.#members.set(`${member.role}/${rank}`, member);
    this.send(member, { welcome: { generation, rank, heartbeatMilliseconds: HEARTBEAT_MS, runFile } });
    this.#options.onJoined(member);
    return member;
  }

  #freeRank(role: MemberRole, wanted: number): number {
    for (let rank = 0; rank < wanted; rank += 1) if (!this.#members.has(`${role}/${rank}`)) return rank;
    return Infinity;
  }

  #lost(member: Member, detail: string): void {
    if (!this.#members.delete(`${member.role}/${member.rank}`) || member.leaving) return;
    this.#options.onLost(
      member,
      new WhittleError(
        'ROLE_LOST',
        `lost ${member.role}[${member.rank}] (process ${member.pid} on ${member.host}): ${detail}`,
      ),
    );
  }
}
