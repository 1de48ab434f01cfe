import type { ConfigureRequest__Output } from '../../protos/generated/whittle/ConfigureRequest.ts';
import type { Directive__Output } from '../../protos/generated/whittle/Directive.ts';
import type { Header__Output } from '../../protos/generated/whittle/Header.ts';
import type { ParameterServerHandlers } from '../../protos/generated/whittle/ParameterServer.ts';
import type { ShardEntry } from '../../shared/checkpoint/manifest.ts';
import { requireCheckpointName } from '../../shared/checkpoint/store.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { DyadicNode } from '../../shared/layout/dyadic.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import type { RowNode } from '../../shared/layout/row-tree.ts';
import { FrameStream } from '../../shared/rpc/frame-stream.ts';
import type { MemberSession } from '../../shared/rpc/member-session.ts';
import { rowNodesFrom } from '../../shared/rpc/row-node-messages.ts';
import { unaryHandler } from '../../shared/rpc/server.ts';
import type { ThreadCaller } from '../../shared/rpc/thread-calls.ts';
import type { SocketBytes } from '../../shared/rpc/windows.ts';
import { type History, NO_HISTORY, openHistory } from '../../shared/telemetry/history.ts';
import { Cuts } from './cuts.ts';
import { Exchange } from './exchange.ts';
import { Exchanges } from './exchanges.ts';
import { Handover } from './handover.ts';
import { holdHandlers } from './hold-handlers.ts';
import { KeptAnswers } from './kept-answers.ts';
import { PeerServers } from './peer-servers.ts';
import type { ConfigureShard, PushMessage } from './shard-messages.ts';
import { type AppliedStep, StepRecords } from './step-records.ts';

/** Room for a format's scales beside 4 bytes an element. */
const BODY_SLACK_BYTES = 1024;

export interface ParameterServerOptions {
  readonly thread: ThreadCaller;
  readonly runDirectory: string;
  readonly session: () => MemberSession;
  readonly socketBytes: () => SocketBytes;
  /** Something this server cannot go on from. */
  readonly onFailure: (error: WhittleError) => void;
}

/** All that ends with a generation. */
interface Term {
  configuring: Promise<{ clock: number; maskEpoch: number }> | null;
  /** The shard has its values. */
  isReady: boolean;
  peers: PeerServers | null;
  answers: KeptAnswers;
  /** Those that its shard keeps to; null before it is configured. */
  cuts: Cuts | null;
  readonly handover: Handover;
}

function newTerm(): Term {
  return {
    configuring: null,
    isReady: false,
    peers: null,
    answers: new KeptAnswers(false),
    cuts: null,
    handover: new Handover(),
  };
}

/** The rpc side of a parameter server: streams, retained answers, reports. The shard itself lives in its thread. */
export class ParameterServerRole {
  readonly handlers: ParameterServerHandlers;
  readonly #options: ParameterServerOptions;
  readonly #exchanges = new Exchanges();
  readonly #records: StepRecords;
  #generation = 0;
  #term = newTerm();
  #config: RunConfig | null = null;
  #stateBytes = 0;
  /** No worker has reason to send more. */
  #maxBodyBytes = 0;
  #rank = 0;
  #history: History = NO_HISTORY;

  constructor(options: ParameterServerOptions) {
    this.#options = options;
    this.#records = new StepRecords(
      (steps) =>
        void options
          .session()
          .report({ steps: { generation: this.#generation, steps, socket: options.socketBytes() } }),
      () => this.#exchanges.traffic,
    );
    this.handlers = this.#handlers();
    this.#listen(options.thread);
  }

  get clock(): number {
    return this.#term.answers.clock;
  }

  /** The generation that this server holds a shard of; 0: none. */
  get generation(): number {
    return this.#term.isReady ? this.#generation : 0;
  }

  /** What it tells a scheduler that takes over, as JSON; empty while it holds nothing. */
  heldShard(): string {
    const { isReady, handover, answers } = this.#term;
    return isReady ? JSON.stringify(handover.heldShard(this.#generation, answers.clock, answers.maskEpoch)) : '';
  }

  /** Admitted by a scheduler, the first or one that took over: it is told again what another may not have taken in. */
  admitted(generation: number): void {
    const { isReady, handover, answers } = this.#term;
    if (!isReady) {
      // A scheduler may begin in the generation it found; what is configured later moves on from it.
      this.#generation = Math.max(this.#generation, generation);
      return;
    }
    if (generation !== this.#generation) return;
    const session = this.#options.session();
    session.report({ serverReady: { generation, clock: answers.clock, maskEpoch: answers.maskEpoch } });
    this.#records.reporter.again();
    handover.tellAgain(session, generation);
  }

  directive(directive: Directive__Output): void {
    if (directive.recorded?.generation === this.#generation) this.#records.reporter.recorded(directive.recorded.step);
    if (!directive.cutAt) return;
    const { clock, stop } = directive.cutAt;
    const { session } = this.#options;
    this.#options.thread.call<number | null>('cutAt', { clock, stop }).then(
      (refusedAt) => {
        if (refusedAt === null) {
          this.#term.cuts?.ask(clock);
          if (stop) this.#term.handover.stopsAt(clock);
          return;
        }
        session().report({ cutRefused: { generation: this.#generation, proposed: clock, clock: refusedAt } });
      },
      (reason: unknown) => this.#options.onFailure(WhittleError.from(reason)),
    );
  }

  /** Sends what is still to be reported and closes every stream. */
  async close(): Promise<void> {
    this.#term.peers?.close();
    this.#records.reporter.flush();
    this.#history.close();
    await this.#exchanges.close();
  }

  #handlers(): ParameterServerHandlers {
    const { thread } = this.#options;
    const checkGeneration = (generation: number): void => this.#checkGeneration(generation);
    return {
      Configure: unaryHandler((request) => {
        if (request.restoreFrom !== '') requireCheckpointName(request.restoreFrom);
        if (request.generation > this.#generation) this.#beginGeneration(request.generation);
        checkGeneration(request.generation);
        const term = this.#term;
        // Asked again it answers the same, unless it failed.
        term.configuring ??= this.#configure(request).catch((reason: unknown) => {
          term.configuring = null;
          throw reason;
        });
        return term.configuring;
      }),

      Exchange: (call) => {
        const stream = new FrameStream(call, {
          peer: `worker at ${call.getPeer()}`,
          maxBodyBytes: this.#maxBodyBytes,
        });
        const generation = this.#generation;
        const asker = { worker: 0, workerClock: 0 };
        const exchange = new Exchange(stream, generation, (asked, { clock, maskEpoch }) =>
          this.#history.record({
            kind: 'read',
            shard: this.#rank,
            generation,
            ...asker,
            asked,
            given: clock,
            maskEpoch,
          }),
        );
        this.#exchanges.add(exchange);
        stream.onMessage((header, body, release) => {
          if (header.kind === 'PULL' || header.last)
            Object.assign(asker, { worker: header.sender, workerClock: header.clock });
          return this.#receive(exchange, header, body, release);
        });
      },

      ...holdHandlers({
        thread,
        checkGeneration,
        onCommitted: ({ generation, step, maskEpoch, record }, survivors) => {
          if (generation === this.#generation) this.#term.handover.committed({ step, maskEpoch, survivors, record });
        },
      }),

      ShareNorm: unaryHandler(async (request) => {
        checkGeneration(request.generation);
        const { step, sender } = request;
        if (request.groups) {
          await thread.call('peerGroups', { step, sender, nodes: rowNodesFrom(request) });
          return {};
        }
        const nodes: DyadicNode[] = request.sums.map((sum, i) => ({
          level: request.levels[i] ?? 0,
          index: request.indices[i] ?? 0,
          sum,
        }));
        await thread.call('peerNorm', { step, sender, nodes });
        return {};
      }),
    };
  }

  /** Drops all that belongs to an older generation: its streams, its answers, what it reported. */
  #beginGeneration(generation: number): void {
    this.#term.peers?.close();
    this.#generation = generation;
    this.#term = newTerm();
    this.#records.reset();
    this.#exchanges.destroy(new WhittleError('STALE_GENERATION', `the run went over to generation ${generation}`));
  }

  async #configure(request: ConfigureRequest__Output): Promise<{ clock: number; maskEpoch: number }> {
    const model = JSON.parse(request.modelDescription) as ModelDescription;
    this.#config = JSON.parse(request.runFile) as RunConfig;
    this.#term.cuts = new Cuts(this.#config);
    this.#rank = request.rank;
    this.#history.close();
    this.#history = openHistory({
      runDirectory: this.#options.runDirectory,
      role: 'server',
      rank: this.#rank,
      enabled: this.#config.history === true,
    });
    const [start, end] = [request.cuts[request.rank], request.cuts[request.rank + 1]];
    if (start === undefined || end === undefined) {
      throw new WhittleError('PROTOCOL', `no range for server[${request.rank}] in cuts ${request.cuts.join(', ')}`);
    }
    const stateSize = model.states.reduce((sum, state) => sum + state.shape.reduce((a, b) => a * b, 1), 0);
    this.#stateBytes = request.rank === 0 ? 4 * stateSize : 0;
    this.#maxBodyBytes = 4 * (end - start) + this.#stateBytes + BODY_SLACK_BYTES;
    const { generation, rank, servers } = request;
    const { thread, onFailure } = this.#options;
    this.#term.peers?.close();
    this.#term.peers = new PeerServers({ generation, addresses: servers, rank, thread, onFailure });
    this.#term.answers = new KeptAnswers(this.#overlaps);
    const message: ConfigureShard = {
      generation,
      rank,
      start,
      end,
      servers: servers.length,
      model,
      config: this.#config,
      runDirectory: this.#options.runDirectory,
      restoreFrom: request.restoreFrom || null,
    };
    return thread.call<{ clock: number; maskEpoch: number }>('configure', message);
  }

  #listen(thread: ThreadCaller): void {
    const report = (message: Parameters<MemberSession['report']>[0]): void =>
      void this.#options.session().report(message);
    /** Hands on what the thread says of the generation in force. */
    const on = <T extends object>(
      event: string,
      handle: (payload: T & { readonly generation: number }) => void,
    ): void =>
      thread.on<T & { readonly generation: number }>(event, (payload) => {
        if (payload.generation === this.#generation) handle(payload);
      });
    on<{ clock: number; maskEpoch: number; weights: Uint8Array; mask: Uint8Array | null }>(
      'published',
      ({ clock, maskEpoch, weights, mask }) => {
        const { answers, handover } = this.#term;
        handover.goesOn();
        const answer = { clock, maskEpoch, body: weights, stateBytes: this.#stateBytes };
        const isFirst = answers.newest.length === 0;
        answers.add(answer, mask);
        this.#exchanges.offer(answer, answers.masks);
        this.#records.answered(clock, this.#config?.training.steps ?? 0);
        if (!isFirst) return;
        this.#term.isReady = true;
        report({ serverReady: { generation: this.#generation, clock, maskEpoch } });
      },
    );
    on<{ step: number }>('hold', ({ generation, step }) => {
      this.#term.handover.holds(step);
      report({ hold: { generation, step } });
    });
    on<{ step: number; nodes: readonly DyadicNode[] }>('norm', ({ step, nodes }) =>
      this.#term.peers?.shareNorm(step, nodes),
    );
    on<{ step: number; nodes: readonly RowNode[] }>('groups', ({ step, nodes }) =>
      this.#term.peers?.shareGroups(step, nodes),
    );
    on<AppliedStep>('stepDone', (step) => this.#records.applied(step));
    on<{ clock: number; maskEpoch: number; shard: ShardEntry }>(
      'shardWritten',
      ({ generation, clock, maskEpoch, shard }) => {
        this.#term.handover.wrote({ clock, maskEpoch, shard });
        this.#records.reporter.flush();
        // By now the answers of this clock have left the sockets, which a report made with them cannot count.
        report({ steps: { generation, steps: [], socket: this.#options.socketBytes() } });
        report({ shardWritten: { generation, clock, maskEpoch, shard: JSON.stringify(shard) } });
      },
    );
    on<{ clock: number; code: string; message: string }>('checkpointFailed', (failed) =>
      report({ checkpointFailed: failed }),
    );
  }

  #receive(
    exchange: Exchange,
    header: Header__Output,
    body: Uint8Array<ArrayBuffer>,
    release: () => void,
  ): Promise<void> | undefined {
    if (header.generation !== this.#generation) {
      if (header.kind === 'PUSH') this.#recordPush(header, 'refused');
      exchange.refuse(header, 'STALE_GENERATION');
      return undefined;
    }
    const { answers } = this.#term;
    switch (header.kind) {
      case 'PUSH':
        return this.#push(exchange, header, body, release);
      case 'PULL':
        if (header.newest) exchange.wantNewest(header.clock, answers.newest, answers.masks);
        else exchange.want(header.clock, answers.all, answers.masks);
        return undefined;
      case 'INITIAL':
        return this.#options.thread.call('initialize', { body, stateBytes: header.stateBytes }, [body.buffer]);
      case 'OPEN':
        return undefined;
      case 'WEIGHTS':
      case 'MASK':
      case 'REFUSED':
        throw new WhittleError('PROTOCOL', `a worker sent ${header.kind}`);
    }
  }

  async #push(
    exchange: Exchange,
    header: Header__Output,
    body: Uint8Array<ArrayBuffer>,
    release: () => void,
  ): Promise<void> {
    const { answers, cuts } = this.#term;
    const { millisecondsSinceAnswer } = exchange;
    if (header.last && cuts && this.#overlaps)
      exchange.wantNewest(cuts.boundAfter(header.clock), answers.newest, answers.masks);
    else if (header.last) exchange.want(header.clock, answers.after(header), answers.masks);
    // Slices of step 0 feed the scores of its mask update; the shard knows whether it takes them.
    if (header.clock <= this.clock && header.clock > 0) {
      this.#recordPush(header, 'duplicate');
      return;
    }
    this.#records.arrived(header.clock, header.slice, millisecondsSinceAnswer);
    const message: PushMessage = {
      step: header.clock,
      slice: header.slice,
      sender: header.sender,
      maskEpoch: header.maskEpoch,
      loss: header.loss,
      examples: header.examples,
      stateBytes: header.stateBytes,
      body,
    };
    const accepted = await this.#options.thread.call<boolean>('push', message, [body.buffer]);
    release();
    if (!accepted) exchange.refuse(header, 'NEED_MASK');
  }

  /** Of a push that does not reach the shard's thread, which writes down the others. */
  #recordPush(header: Header__Output, verdict: 'duplicate' | 'refused'): void {
    const { generation, clock: step, slice, maskEpoch, sender, examples } = header;
    const push = { shard: this.#rank, generation, step, slice, maskEpoch, sender, examples };
    this.#history.record({ kind: 'push', ...push, verdict });
  }

  /** Steps overlap: weights change with every slice, and their clock says only what is complete. */
  get #overlaps(): boolean {
    return this.#config !== null && this.#config.consistency.mode !== 'bsp';
  }

  #checkGeneration(generation: number): void {
    if (generation === this.#generation) return;
    throw new WhittleError('STALE_GENERATION', `generation ${generation} where ${this.#generation} is in force`);
  }
}
