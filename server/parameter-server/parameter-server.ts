import type { ConfigureRequest__Output } from '../../protos/generated/whittle/ConfigureRequest.ts';
import type { Header__Output } from '../../protos/generated/whittle/Header.ts';
import type { ParameterServerHandlers } from '../../protos/generated/whittle/ParameterServer.ts';
import type { ShareNormRequest } from '../../protos/generated/whittle/ShareNormRequest.ts';
import type { Directive__Output } from '../../protos/generated/whittle/Directive.ts';
import type { ShardEntry } from '../../shared/checkpoint/manifest.ts';
import { requireCheckpointName } from '../../shared/checkpoint/store.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { DyadicNode } from '../../shared/layout/dyadic.ts';
import type { RowNode } from '../../shared/layout/row-tree.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import { parameterServerClient, unary } from '../../shared/rpc/client.ts';
import { retry } from '../../shared/rpc/deadline.ts';
import { FrameStream } from '../../shared/rpc/frame-stream.ts';
import type { HeldShard, KeptCommit } from '../../shared/rpc/held-shard.ts';
import type { MemberSession } from '../../shared/rpc/member-session.ts';
import { scoringFromMessage, selectionFromMessage } from '../../shared/rpc/selection-messages.ts';
import { rowNodesFrom, rowNodesToMessage } from '../../shared/rpc/row-node-messages.ts';
import { unaryHandler } from '../../shared/rpc/server.ts';
import type { ThreadCaller } from '../../shared/rpc/thread-calls.ts';
import type { SocketBytes } from '../../shared/rpc/windows.ts';
import { type History, NO_HISTORY, openHistory } from '../../shared/telemetry/history.ts';
import { type HistogramRound, MAX_SCORES, type ScoresAnswer } from '../../shared/sparsity/selection.ts';
import { type Answer, Exchange, type MaskVersion } from './exchange.ts';
import type { ConfigureShard, PushMessage } from './shard-messages.ts';
import { SliceTimes } from './slice-times.ts';
import { StepReporter } from './step-reporter.ts';

const NORM_DEADLINE_MS = 120_000;
/** Mask commits and shard files that are kept for a scheduler that takes over. */
const KEPT_COMMITS = 8;
const KEPT_FILES = 4;
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

interface AppliedStep {
  readonly generation: number;
  readonly step: number;
  readonly loss: number;
  readonly sliceWorkers: readonly number[];
  readonly at: number;
}

/** The rpc side of a parameter server: streams, retained answers, reports. The shard itself lives in its thread. */
export class ParameterServerRole {
  readonly #options: ParameterServerOptions;
  /** Ends what waits for others when the generation ends. */
  #timeline = new AbortController();
  #configuring: Promise<{ clock: number; maskEpoch: number }> | null = null;
  /** Told again to a scheduler that takes over. */
  #isReady = false;
  #holding: number | null = null;
  #stopAt: number | null = null;
  #commits: KeptCommit[] = [];
  #written: { readonly clock: number; readonly maskEpoch: number; readonly shard: ShardEntry }[] = [];
  readonly #exchanges = new Set<Exchange>();
  readonly #reporter: StepReporter;
  #generation = 0;
  #config: RunConfig | null = null;
  #peers: ReturnType<typeof parameterServerClient>[] = [];
  #stateBytes = 0;
  /** No worker has reason to send more. */
  #maxBodyBytes = 0;
  #rank = 0;
  #history: History = NO_HISTORY;
  /** Encoded weights of clock t-1 and t: a worker that lags, or a slice lost between servers, needs the older. */
  #answers: Answer[] = [];
  /** ssp, asp: weights of exactly the newest evaluation steps, which later slices change at once. */
  #exact: Answer[] = [];
  #masks: MaskVersion[] = [];
  #applied: AppliedStep[] = [];
  readonly #sliceTimes = new SliceTimes();
  #counted = { pushed: 0, pulled: 0, masks: 0 };
  /** Bytes of streams that have ended. */
  readonly #ended = { pushed: 0, pulled: 0, masks: 0 };

  constructor(options: ParameterServerOptions) {
    this.#options = options;
    this.#reporter = new StepReporter((steps) => {
      options.session().report({ steps: { generation: this.#generation, steps, socket: options.socketBytes() } });
    });
    this.#listen(options.thread);
  }

  get clock(): number {
    return this.#answers.at(-1)?.clock ?? 0;
  }

  readonly handlers: ParameterServerHandlers = {
    Configure: unaryHandler((request) => {
      if (request.restoreFrom !== '') requireCheckpointName(request.restoreFrom);
      if (request.generation > this.#generation) this.#beginGeneration(request.generation);
      this.#checkGeneration(request.generation);
      // Asked again it answers the same, unless it failed.
      this.#configuring ??= this.#configure(request).catch((reason: unknown) => {
        this.#configuring = null;
        throw reason;
      });
      return this.#configuring;
    }),

    Exchange: (call) => {
      const stream = new FrameStream(call, {
        peer: `worker at ${call.getPeer()}`,
        maxBodyBytes: this.#maxBodyBytes,
      });
      const generation = this.#generation;
      const asker = { worker: 0, workerClock: 0 };
      const exchange = new Exchange(stream, generation, (asked, { clock, maskEpoch }) =>
        this.#history.record({ kind: 'read', shard: this.#rank, generation, ...asker, asked, given: clock, maskEpoch }),
      );
      this.#exchanges.add(exchange);
      stream.onMessage((header, body, release) => {
        if (header.kind === 'PULL' || header.last)
          Object.assign(asker, { worker: header.sender, workerClock: header.clock });
        return this.#receive(exchange, header, body, release);
      });
      void stream.closed.then(() => {
        this.#exchanges.delete(exchange);
        const bytes = bytesOf(stream);
        this.#ended.pushed += bytes.pushed;
        this.#ended.pulled += bytes.pulled;
        this.#ended.masks += bytes.masks;
      });
    },

    Histogram: unaryHandler(async (request) => {
      this.#checkGeneration(request.generation);
      const groups = await this.#options.thread.call<number[][]>('histogram', {
        scoring: scoringFromMessage(request.scoring),
        population: request.dead ? 'dead' : 'alive',
        groups: request.groups.map(({ ranges }) => ranges.map(({ start, end }) => [start, end] as const)),
        prior: request.prior.map(selectionFromMessage),
        round: request.round as HistogramRound,
        prefixes: request.prefixes,
      });
      return { groups: groups.map((counts) => ({ counts })) };
    }),

    Scores: unaryHandler(async (request) => {
      this.#checkGeneration(request.generation);
      const { start, end } = request.range ?? { start: 0, end: 0 };
      if (end - start > MAX_SCORES) {
        throw new WhittleError(
          'PROTOCOL',
          `scores of ${end - start} elements asked for at once; ${MAX_SCORES} at most`,
        );
      }
      const { alive, scores } = await this.#options.thread.call<ScoresAnswer>('scores', {
        scoring: scoringFromMessage(request.scoring),
        range: [start, end],
        prior: request.prior.map(selectionFromMessage),
        ofState: request.ofState,
      });
      return { alive, scores: new Uint8Array(scores.buffer, scores.byteOffset, scores.byteLength) };
    }),

    CommitMask: unaryHandler(async (request) => {
      if (request.restoreFrom !== '') requireCheckpointName(request.restoreFrom);
      this.#checkGeneration(request.generation);
      const survivors = await this.#options.thread.call<number>('commit', {
        step: request.step,
        maskEpoch: request.maskEpoch,
        selections: request.selections.map(selectionFromMessage),
        restoreFrom: request.restoreFrom || null,
      });
      const { step, maskEpoch, record, generation } = request;
      if (generation === this.#generation && !this.#commits.some((kept) => kept.maskEpoch >= maskEpoch))
        this.#commits = [...this.#commits, { step, maskEpoch, survivors, record }].slice(-KEPT_COMMITS);
      return { survivors };
    }),

    ShareNorm: unaryHandler(async (request) => {
      this.#checkGeneration(request.generation);
      const { step, sender } = request;
      if (request.groups) {
        await this.#options.thread.call('peerGroups', { step, sender, nodes: rowNodesFrom(request) });
        return {};
      }
      const nodes: DyadicNode[] = request.sums.map((sum, i) => ({
        level: request.levels[i] ?? 0,
        index: request.indices[i] ?? 0,
        sum,
      }));
      await this.#options.thread.call('peerNorm', { step, sender, nodes });
      return {};
    }),
  };

  /** The generation that this server holds a shard of; 0: none. */
  get generation(): number {
    return this.#isReady ? this.#generation : 0;
  }

  /** What it tells a scheduler that takes over, as JSON; empty while it holds nothing. */
  heldShard(): string {
    if (!this.#isReady) return '';
    const held: HeldShard = {
      generation: this.#generation,
      clock: this.#holding ?? this.clock,
      maskEpoch: this.#answers.at(-1)?.maskEpoch ?? 0,
      stopAt: this.#stopAt,
      commits: this.#commits,
    };
    return JSON.stringify(held);
  }

  /** Admitted by a scheduler, the first or one that took over: it is told again what another may not have taken in. */
  admitted(generation: number): void {
    if (!this.#isReady) {
      // A scheduler may begin in the generation it found; what is configured later moves on from it.
      this.#generation = Math.max(this.#generation, generation);
      return;
    }
    if (generation !== this.#generation) return;
    const session = this.#options.session();
    const { clock } = this;
    session.report({ serverReady: { generation, clock, maskEpoch: this.#answers.at(-1)?.maskEpoch ?? 0 } });
    this.#reporter.again();
    for (const { shard, ...written } of this.#written)
      session.report({ shardWritten: { generation, ...written, shard: JSON.stringify(shard) } });
    if (this.#holding !== null) session.report({ hold: { generation, step: this.#holding } });
  }

  directive(directive: Directive__Output): void {
    if (directive.recorded?.generation === this.#generation) this.#reporter.recorded(directive.recorded.step);
    if (!directive.cutAt) return;
    const { clock, stop } = directive.cutAt;
    const { session } = this.#options;
    this.#options.thread.call<number | null>('cutAt', { clock, stop }).then(
      (refusedAt) => {
        if (refusedAt === null) {
          if (stop) this.#stopAt = clock;
          return;
        }
        session().report({ cutRefused: { generation: this.#generation, proposed: clock, clock: refusedAt } });
      },
      (reason: unknown) => this.#options.onFailure(WhittleError.from(reason)),
    );
  }

  /** Sends what is still to be reported and closes every stream. */
  async close(): Promise<void> {
    this.#timeline.abort();
    this.#reporter.flush();
    for (const peer of this.#peers) peer.close();
    this.#history.close();
    await Promise.all([...this.#exchanges].map((exchange) => exchange.stream.close()));
  }

  /** Drops all that belongs to an older generation: its streams, its answers, what it reported. */
  #beginGeneration(generation: number): void {
    this.#generation = generation;
    this.#timeline.abort();
    this.#timeline = new AbortController();
    this.#configuring = null;
    this.#isReady = false;
    this.#holding = null;
    this.#stopAt = null;
    this.#commits = [];
    this.#written = [];
    this.#answers = [];
    this.#masks = [];
    this.#applied = [];
    this.#exact = [];
    this.#sliceTimes.reset();
    this.#reporter.reset();
    for (const peer of this.#peers) peer.close();
    this.#peers = [];
    const stale = new WhittleError('STALE_GENERATION', `the run went over to generation ${generation}`);
    for (const { stream } of this.#exchanges) stream.destroy(stale);
  }

  async #configure(request: ConfigureRequest__Output): Promise<{ clock: number; maskEpoch: number }> {
    const model = JSON.parse(request.modelDescription) as ModelDescription;
    this.#config = JSON.parse(request.runFile) as RunConfig;
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
    this.#peers = request.servers.map((address) => parameterServerClient(address));
    const message: ConfigureShard = {
      generation: request.generation,
      rank: request.rank,
      start,
      end,
      servers: request.servers.length,
      model,
      config: this.#config,
      runDirectory: this.#options.runDirectory,
      restoreFrom: request.restoreFrom || null,
    };
    return this.#options.thread.call<{ clock: number; maskEpoch: number }>('configure', message);
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
        this.#holding = null;
        if (mask) this.#masks = [...this.#masks.slice(-1), { epoch: maskEpoch, bits: mask }];
        const isFirst = this.#answers.length === 0;
        const answer: Answer = { clock, maskEpoch, body: weights, stateBytes: this.#stateBytes };
        if (this.#overlaps && this.clock !== clock) this.#exact = [...this.#exact.slice(-1), answer];
        this.#answers = this.#overlaps ? [answer] : [...this.#answers.slice(-1), answer];
        for (const exchange of this.#exchanges) exchange.offer(answer, this.#masks);
        this.#reportStep(clock);
        if (!this.#overlaps) this.#sliceTimes.answered(clock);
        if (!isFirst) return;
        this.#isReady = true;
        report({ serverReady: { generation: this.#generation, clock, maskEpoch } });
      },
    );
    on<{ step: number }>('hold', ({ generation, step }) => {
      this.#holding = step;
      report({ hold: { generation, step } });
    });
    on<{ step: number; nodes: readonly DyadicNode[] }>('norm', ({ step, nodes }) =>
      this.#share('the gradient norm', 'peerNorm', step, nodes, {
        levels: nodes.map(({ level }) => level),
        indices: nodes.map(({ index }) => index),
        sums: nodes.map(({ sum }) => sum),
      }),
    );
    on<{ step: number; nodes: readonly RowNode[] }>('groups', ({ step, nodes }) =>
      this.#share('the norms of output units', 'peerGroups', step, nodes, rowNodesToMessage(nodes)),
    );
    on<AppliedStep>('stepDone', (step) => this.#applied.push(step));
    on<{ clock: number; maskEpoch: number; shard: ShardEntry }>(
      'shardWritten',
      ({ generation, clock, maskEpoch, shard }) => {
        this.#written = [...this.#written, { clock, maskEpoch, shard }].slice(-KEPT_FILES);
        this.#reporter.flush();
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
    switch (header.kind) {
      case 'PUSH':
        return this.#push(exchange, header, body, release);
      case 'PULL':
        if (header.newest) exchange.wantNewest(header.clock, this.#answers, this.#masks);
        else exchange.want(header.clock, [...this.#exact, ...this.#answers], this.#masks);
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
    if (header.last && this.#overlaps) {
      const { mode, staleness } = this.#config?.consistency ?? { mode: 'bsp', staleness: 0 };
      const clock = mode === 'ssp' ? Math.max(0, header.clock - staleness) : 0;
      exchange.wantNewest(clock, this.#answers, this.#masks);
    } else if (header.last) exchange.want(header.clock, this.#answersTo(header), this.#masks);
    // Slices of step 0 feed the scores of its mask update; the shard knows whether it takes them.
    if (header.clock <= this.clock && header.clock > 0) {
      this.#recordPush(header, 'duplicate');
      return;
    }
    this.#sliceTimes.arrived(header.clock, header.slice);
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

  /** What a push waits for is newer than what it was computed with. */
  #answersTo({ clock, maskEpoch }: Header__Output): readonly Answer[] {
    return clock > 0
      ? this.#answers
      : this.#answers.filter((answer) => answer.maskEpoch > maskEpoch || answer.clock > 0);
  }

  /** Of a push that does not reach the shard's thread, which writes down the others. */
  #recordPush(header: Header__Output, verdict: 'duplicate' | 'refused'): void {
    const { generation, clock: step, slice, maskEpoch, sender, examples } = header;
    const push = { shard: this.#rank, generation, step, slice, maskEpoch, sender, examples };
    this.#history.record({ kind: 'push', ...push, verdict });
  }

  /** Hands this server's part of a step's sums to all servers, itself among them. */
  #share(
    sums: string,
    method: 'peerNorm' | 'peerGroups',
    step: number,
    nodes: readonly DyadicNode[] | readonly RowNode[],
    message: ShareNormRequest,
  ): void {
    const request = { ...message, generation: this.#generation, step, sender: this.#rank };
    const { signal } = this.#timeline;
    const what = `server[%] to take its part of ${sums} of step ${step}`;
    const shared = this.#peers.map((peer, rank) =>
      rank === this.#rank
        ? this.#options.thread.call(method, { step, sender: rank, nodes })
        : retry((deadlineMilliseconds) => unary(peer, 'shareNorm', request, { deadlineMilliseconds, signal }), {
            deadlineMilliseconds: NORM_DEADLINE_MS,
            what: what.replace('%', String(rank)),
            signal,
          }),
    );
    Promise.all(shared).catch((reason: unknown) => {
      const error = WhittleError.from(reason);
      // The peer went over to a newer generation before this server: the scheduler tells this one next.
      if (signal.aborted || error.code === 'STALE_GENERATION') return;
      this.#options.onFailure(error);
    });
  }

  /** Steps overlap: weights change with every slice, and their clock says only what is complete. */
  get #overlaps(): boolean {
    return this.#config !== null && this.#config.consistency.mode !== 'bsp';
  }

  /** One record a step, made when its answers are sent, so that their bytes belong to it. */
  #reportStep(clock: number): void {
    for (let step = this.#applied[0]; step && step.step <= clock; step = this.#applied[0]) {
      this.#applied.shift();
      this.#record(step);
    }
  }

  #record(step: AppliedStep): void {
    const total = { ...this.#ended };
    for (const { stream } of this.#exchanges) {
      const bytes = bytesOf(stream);
      total.pushed += bytes.pushed;
      total.pulled += bytes.pulled;
      total.masks += bytes.masks;
    }
    this.#reporter.add(
      {
        step: step.step,
        loss: step.loss,
        pushedBytes: total.pushed - this.#counted.pushed,
        pulledBytes: total.pulled - this.#counted.pulled,
        maskBytes: total.masks - this.#counted.masks,
        at: step.at,
        sliceWorkers: [...step.sliceWorkers],
        sliceMilliseconds: this.#sliceTimes.take(step.step),
      },
      step.step === this.#config?.training.steps,
    );
    this.#counted = total;
  }

  #checkGeneration(generation: number): void {
    if (generation === this.#generation) return;
    throw new WhittleError('STALE_GENERATION', `generation ${generation} where ${this.#generation} is in force`);
  }
}

function bytesOf(stream: FrameStream): { pushed: number; pulled: number; masks: number } {
  const sum = (count: { bodyBytes: number; overheadBytes: number }): number => count.bodyBytes + count.overheadBytes;
  return {
    pushed: sum(stream.received.of('PUSH')),
    pulled: sum(stream.sent.of('WEIGHTS')),
    masks: sum(stream.sent.of('MASK')),
  };
}
