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
  /** Generation it took part in when it registered; 0: none. */
  readonly heldGeneration: number;
  /** JSON of its HeldShard when it registered; empty: none. */
  readonly heldShard: string;
  /** performance.now() of its last report. */
  lastHeard: number;
  clock: number;
  rssBytes: number;
  /** It said goodbye, or was told to finish: the end of its stream is no loss. */
  leaving: boolean;
  /** Its session is over, since performance.now() and how; it may come back within the grace. Null: in session. */
  suspected: { readonly since: number; readonly detail: string } | null;
}

/** What hears of members: the run of the generation in force. */
export interface MemberListener {
  joined(member: Member): void;
  reported(member: Member, report: Report__Output): void;
  lost(member: Member, error: WhittleError): void;
}

export interface MembersOptions {
  readonly runId: string;
  /** The generation in force now. */
  readonly generation: () => number;
  readonly servers: number;
  readonly workers: number;
  /** JSON of the effective run file. */
  readonly runFile: string;
}

export const HEARTBEAT_MS = 1_000;
/** Silence after which a member with an open connection counts as dead. */
const SILENCE_MS = 10_000;
/** A broken session only raises suspicion: the same process may open another within this time. */
const GRACE_MS = 2_000;

/**
 * Who takes part in the run: registration, heartbeats with a deadline, directives. Sessions outlive generations: after
 * a rollback the members that live go on in the next one.
 */
export class Members {
  readonly #options: MembersOptions;
  readonly #members = new Map<string, Member>();
  #listener: MemberListener | null = null;

  constructor(options: MembersOptions) {
    this.#options = options;
  }

  /** Hands members on to the run of a new generation; those that live now join it at once. */
  listen(listener: MemberListener): void {
    this.#listener = listener;
    for (const member of this.all()) listener.joined(member);
  }

  /** Serves one Session stream: its first report registers the member. */
  accept(stream: ServerDuplexStream<Report__Output, Directive>): void {
    let member: Member | null = null;
    stream.on('data', (report: Report__Output) => {
      if (report.register) {
        if (!member) member = this.#register(report.register, stream);
        return;
      }
      if (!member || !this.isLive(member)) return;
      member.lastHeard = performance.now();
      if (report.heartbeat) {
        member.clock = report.heartbeat.clock;
        member.rssBytes = report.heartbeat.rssBytes;
      }
      if (report.goodbye) member.leaving = true;
      this.#listener?.reported(member, report);
    });
    const gone = (detail: string): void => {
      stream.end();
      if (!member) return;
      if (member.leaving) this.#lost(member, 'it left');
      else member.suspected ??= { since: performance.now(), detail };
    };
    stream.on('end', () => gone('its connection ended'));
    stream.on('cancelled', () => gone('its connection broke (the process died or its host is unreachable)'));
    stream.on('error', (error) => gone(`its connection failed: ${error.message}`));
  }

  /** False once it is lost, or another session took its place. */
  isLive(member: Member): boolean {
    return this.#members.get(keyOf(member)) === member;
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

  /** Declares members dead that were silent, or away, for too long. Called regularly. */
  checkSilence(): void {
    const now = performance.now();
    for (const member of this.all()) {
      const silence = now - member.lastHeard;
      if (member.suspected && now - member.suspected.since > GRACE_MS) this.#lost(member, member.suspected.detail);
      else if (silence > SILENCE_MS) this.#lost(member, `no heartbeat for ${Math.round(silence / 1000)} s`);
    }
  }

  /** A supervisor saw its process end: nothing more will be heard of it. */
  exited(role: MemberRole, rank: number, message: string): void {
    const member = this.#members.get(keyOf({ role, rank }));
    if (member) this.#lost(member, message);
  }

  /** Lets one member go: it is told so, and its session closed. */
  dismiss(member: Member, reason: string): void {
    member.leaving = true;
    this.send(member, { finish: { state: 'LEFT', reason } });
    member.stream.end();
    this.#members.delete(keyOf(member));
  }

  /** Tells everyone that the run is over and closes the sessions. */
  finish(state: string, reason: string): void {
    for (const member of this.all()) {
      member.leaving = true;
      this.send(member, { finish: { state, reason } });
      member.stream.end();
    }
  }

  /** Closes the sessions without a word: another scheduler holds the run, and the members go over to it. */
  abandon(): void {
    this.#listener = null;
    for (const member of this.all()) member.stream.end();
  }

  #register(register: Register__Output, stream: ServerDuplexStream<Report__Output, Directive>): Member | null {
    const refuse = (code: number, details: string): null => {
      stream.emit('error', { code, details });
      return null;
    };
    const { runId, servers, workers, runFile } = this.#options;
    const generation = this.#options.generation();
    if (register.role !== 'server' && register.role !== 'worker') {
      return refuse(status.INVALID_ARGUMENT, `unknown role "${register.role}"; use server or worker`);
    }
    if (register.runId !== runId) {
      return refuse(status.FAILED_PRECONDITION, `this scheduler runs "${runId}", not "${register.runId}"`);
    }
    if (register.generation > generation) {
      return refuse(
        status.ABORTED,
        `generation ${register.generation} is ahead of this scheduler's ${generation}: another one holds the run`,
      );
    }
    const wanted = register.role === 'server' ? servers : workers;
    const rank = register.rank === NO_RANK ? this.#freeRank(register.role, wanted) : register.rank;
    if (rank >= wanted) {
      return refuse(
        status.RESOURCE_EXHAUSTED,
        `${register.role}[${rank === Infinity ? 'next' : rank}] is not needed: the run has ${wanted} ${register.role}s`,
      );
    }
    const before = this.#members.get(keyOf({ role: register.role, rank }));
    const same = before?.pid === register.pid && before.host === register.host;
    if (before && !same) {
      if (!before.suspected)
        return refuse(status.ALREADY_EXISTS, `${register.role}[${rank}] is registered already`);
      this.#lost(before, before.suspected.detail);
    }
    // The same process came back: what it takes part in goes on.
    if (before && same) before.stream.end();
    const member: Member = {
      role: register.role,
      rank,
      address: register.address,
      pid: register.pid,
      host: register.host,
      stream,
      heldGeneration: register.generation,
      heldShard: register.heldShard,
      lastHeard: performance.now(),
      clock: register.clock,
      rssBytes: 0,
      leaving: false,
      suspected: null,
    };
    this.#members.set(keyOf(member), member);
    this.send(member, { welcome: { generation, rank, heartbeatMilliseconds: HEARTBEAT_MS, runFile } });
    this.#listener?.joined(member);
    return member;
  }

  #freeRank(role: MemberRole, wanted: number): number {
    for (let rank = 0; rank < wanted; rank += 1) if (!this.#members.has(keyOf({ role, rank }))) return rank;
    return Infinity;
  }

  #lost(member: Member, detail: string): void {
    if (!this.isLive(member)) return;
    this.#members.delete(keyOf(member));
    if (!member.stream.writableEnded) member.stream.end();
    this.#listener?.lost(
      member,
      new WhittleError(
        'ROLE_LOST',
        `lost ${member.role}[${member.rank}] (process ${member.pid} on ${member.host}): ${detail}`,
      ),
    );
  }
}

function keyOf({ role, rank }: { readonly role: MemberRole; readonly rank: number }): string {
  return `${role}/${rank}`;
}
