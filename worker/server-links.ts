import type { Header__Output } from '../protos/generated/whittle/Header.ts';
import type { RunConfig } from '../shared/config/types.ts';
import { decode, encode, roundingKey, scaleOf } from '../shared/codec/codec.ts';
import { WhittleError } from '../shared/errors.ts';
import type { ParameterSpace } from '../shared/layout/parameter-space.ts';
import { openExchange, parameterServerClient } from '../shared/rpc/client.ts';
import type { FrameStream } from '../shared/rpc/frame-stream.ts';
import { failpointAfterSend } from '../shared/telemetry/failpoints.ts';
import type { Pulse } from './pulse.ts';
import { ShardView } from './shard-view.ts';

export interface PulledWeights {
  readonly clock: number;
  /** The lowest of the servers' mask epochs: equal on all of them where the clocks are. */
  readonly maskEpoch: number;
  /** Packed survivors of the whole space in flat order. */
  readonly packed: Float32Array;
  readonly state: Float32Array;
  /** Bitmap over the whole space where it changed since the last pull, else null. */
  readonly mask: Uint8Array | null;
}

export interface SlicePush {
  readonly step: number;
  readonly slice: number;
  readonly gradient: Float32Array;
  readonly stateDelta: Float32Array;
  readonly loss: number;
  readonly examples: number;
  /** The last one of this worker in this step: the servers answer it. */
  readonly last: boolean;
}

/** One server's weights at a clock, with the mask that they are packed under. */
interface Received {
  readonly clock: number;
  readonly maskEpoch: number;
  readonly body: Uint8Array<ArrayBuffer>;
  readonly stateBytes: number;
}

interface Link {
  readonly stream: FrameStream;
  readonly close: () => void;
  /** Bitmap of the shard under the epoch that the server sent last. */
  mask: { readonly epoch: number; readonly bits: Uint8Array | null };
  received: Received | null;
}

export interface ServerLinksOptions {
  readonly config: RunConfig;
  readonly generation: number;
  readonly rank: number;
  readonly space: ParameterSpace;
  readonly cuts: readonly number[];
  readonly servers: readonly string[];
  /** Beats when weights arrive, a server refuses something, or a link is lost. */
  readonly news: Pulse;
}

/**
 * A worker's streams to all servers: pushes cut by shard, weights joined from shards. Once a link is lost, `check` and
 * all else throw; the worker then opens new links and asks the servers where they are.
 */
export class ServerLinks {
  readonly #options: ServerLinksOptions;
  readonly #links: Link[];
  readonly #view: ShardView;
  /** Epoch that the view shows, by server. */
  readonly #shown: number[];
  #maskChanged = true;
  #failure: WhittleError | null = null;
  #closing = false;

  constructor(options: ServerLinksOptions) {
    this.#options = options;
    this.#view = new ShardView(options.cuts);
    this.#shown = options.servers.map(() => -1);
    this.#links = options.servers.map((address, server) => {
      const client = parameterServerClient(address);
      const stream = openExchange(client, { peer: `server[${server}] at ${address}` });
      const link: Link = { stream, close: () => client.close(), mask: { epoch: -1, bits: null }, received: null };
      stream.onMessage((header, body) => this.#receive(server, link, header, body));
      void stream.closed.then((reason) => {
        if (this.#closing) return;
        this.#fail(reason ?? new WhittleError('ROLE_LOST', `server[${server}] at ${address} ended the stream`));
      });
      return link;
    });
  }

  /** Throws what ended the links: ROLE_LOST or STALE_GENERATION where new ones may hold. */
  check(): void {
    if (this.#failure) throw this.#failure;
  }

  /** Sends the dense initial values, cut by shard; the state goes to the first server, which holds it. */
  async sendInitial(weights: Float32Array, state: Float32Array): Promise<void> {
    await Promise.all(
      this.#links.map((link, server) => {
        const values = bytesOf(weights.subarray(this.#view.cuts[server], this.#view.cuts[server + 1]));
        const states = server === 0 ? bytesOf(state) : new Uint8Array(0);
        return link.stream.send(this.#header('INITIAL', { stateBytes: states.byteLength }), [values, states]);
      }),
    );
  }

  /**
   * Asks all servers where they are and gets the weights of the smallest clock, which all of them still keep: a server
   * is ahead of another by one step at most.
   */
  async pullNewest(wait: () => Promise<void>): Promise<PulledWeights> {
    for (;;) {
      for (const link of this.#links) link.received = null;
      await Promise.all(this.#links.map((link) => link.stream.send(this.#header('PULL', { newest: true }))));
      while (this.#links.some((link) => link.received === null)) await wait();
      const clock = Math.min(...this.#links.map((link) => link.received?.clock ?? 0));
      const ahead = this.#links.filter((link) => link.received?.clock !== clock);
      for (const link of ahead) link.received = null;
      await Promise.all(ahead.map((link) => link.stream.send(this.#header('PULL', { clock }))));
      while (this.#links.some((link) => link.received === null)) await wait();
      if (this.has(clock)) return this.take(clock);
    }
  }

  /** Asks all servers for their weights of `clock` or later, each its newest; for overlapping steps (ssp, asp). */
  async pullAtLeast(clock: number, wait: () => Promise<void>): Promise<PulledWeights> {
    await this.askForAtLeast(clock);
    while (!this.answered) await wait();
    return this.takeAnswers();
  }

  /** The question of `pullAtLeast` alone. */
  async askForAtLeast(clock: number): Promise<void> {
    for (const link of this.#links) link.received = null;
    await Promise.all(this.#links.map((link) => link.stream.send(this.#header('PULL', { clock, newest: true }))));
  }

  /** Weights of exactly `clock`, which servers keep for a while where it is an evaluation step; null where they are gone. */
  async pullExactly(clock: number, wait: () => Promise<void>): Promise<PulledWeights | null> {
    for (const link of this.#links) link.received = null;
    await Promise.all(this.#links.map((link) => link.stream.send(this.#header('PULL', { clock }))));
    while (!this.answered) await wait();
    const weights = this.takeAnswers();
    if (weights.clock === clock && weights.newest === clock) return weights;
    // What is not used must not hide a new mask from the next that is.
    this.#maskChanged ||= weights.mask !== null;
    return null;
  }

  /** Whether every server has answered the last question or push. */
  get answered(): boolean {
    return this.#links.every((link) => link.received !== null);
  }

  /** What the servers answered; their clocks may differ, `clock` is the lowest. */
  takeAnswers(): PulledWeights & { readonly newest: number } {
    const clocks = this.#links.map((link) => link.received?.clock ?? 0);
    return { ...this.#takeAll(), clock: Math.min(...clocks), newest: Math.max(...clocks) };
  }

  /** Sends one slice to every server. Resolves when the bytes are handed to the transport. */
  async push(push: SlicePush): Promise<void> {
    this.check();
    const { config, space } = this.#options;
    const format = config.wire.push;
    const cuts = this.#view.pushCuts(config.sparsity, space, push.step);
    const key = roundingKey(config.seed, push.step, push.slice);
    // One scale for the whole slice, and random numbers by position, so that shard cuts change no bit.
    const scale = format === 'int8' ? scaleOf(push.gradient) : undefined;
    await Promise.all(
      this.#links.map(async (link, server) => {
        const fault = server === 1 ? failpointAfterSend('push.half-sent', push.step) : undefined;
        if (fault) await fault;
        const [begin = 0, end = begin] = cuts.slice(server);
        const body = encode(format, push.gradient.subarray(begin, end), {
          rounding: { key, first: begin },
          ...(scale === undefined ? {} : { scale }),
        });
        const state = server === 0 ? bytesOf(push.stateDelta) : new Uint8Array(0);
        const header = this.#header('PUSH', {
          clock: push.step,
          slice: push.slice,
          loss: push.loss,
          examples: push.examples,
          stateBytes: state.byteLength,
          last: push.last,
        });
        return link.stream.send({ ...header, maskEpoch: this.#shown[server] ?? -1 }, [body, state]);
      }),
    );
  }

  /** Whether the weights of `clock` are there from every server. */
  has(clock: number): boolean {
    return this.#links.every((link) => link.received?.clock === clock);
  }

  /** Whether a server answered with later weights: the others did this worker's part, and it has fallen behind. */
  isBehind(clock: number): boolean {
    return this.#links.some((link) => (link.received?.clock ?? 0) > clock);
  }

  /** For messages: whose weights of `clock` are not there yet. */
  late(clock: number): string {
    return this.#links
      .flatMap((link, server) => (link.received?.clock === clock ? [] : [`server[${server}]`]))
      .join(', ');
  }

  /** Takes the weights of `clock`, which `has`. */
  take(clock: number): PulledWeights {
    if (!this.has(clock)) throw new WhittleError('INTERNAL', `no weights of ${this.late(clock)} at ${clock}`);
    return { clock, ...this.#takeAll() };
  }

  /** Reads what the servers sent, each under its own mask, and forgets it. */
  #takeAll(): Omit<PulledWeights, 'clock'> {
    const taken = this.#links.map((link, server) => {
      const { received, mask } = link;
      if (!received) throw new WhittleError('INTERNAL', `no weights of server[${server}]`);
      if (this.#shown[server] !== received.maskEpoch && mask.bits) {
        this.#view.setMask(server, mask.bits);
        this.#maskChanged = true;
      }
      this.#shown[server] = received.maskEpoch;
      link.received = null;
      return received;
    });
    const total = this.#view.packedRange(this.#links.length - 1)[1];
    const packed = new Float32Array(total);
    let state = new Float32Array(0);
    taken.forEach(({ body, stateBytes }, server) => {
      const cut = body.byteLength - stateBytes;
      const [begin, end] = this.#view.packedRange(server);
      packed.set(decode(this.#options.config.wire.pull, body.subarray(0, cut), end - begin), begin);
      if (stateBytes > 0) state = new Float32Array(body.slice(cut).buffer);
    });
    const mask = this.#maskChanged ? this.#view.mask() : null;
    this.#maskChanged = false;
    return { packed, state, mask, maskEpoch: Math.min(...this.#shown) };
  }

  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all(this.#links.map((link) => link.stream.close().catch(() => undefined)));
    for (const link of this.#links) link.close();
  }

  #receive(server: number, link: Link, header: Header__Output, body: Uint8Array<ArrayBuffer>): void {
    if (header.generation !== this.#options.generation) return;
    switch (header.kind) {
      case 'MASK':
        link.mask = { epoch: header.maskEpoch, bits: body };
        // Weights that came before under another mask cannot be read any more.
        if (link.received && link.received.maskEpoch !== header.maskEpoch) link.received = null;
        return;
      case 'WEIGHTS':
        link.received = { clock: header.clock, maskEpoch: header.maskEpoch, body, stateBytes: header.stateBytes };
        this.#options.news.beat();
        return;
      case 'REFUSED':
        this.#fail(
          // Both are mended by asking the servers anew where they are.
          new WhittleError(
            header.reason === 'STALE_GENERATION' || header.reason === 'NEED_MASK' ? 'STALE_GENERATION' : 'PROTOCOL',
            `server[${server}] refused slice ${header.slice} of step ${header.clock}: ${header.reason}`,
          ),
        );
        return;
      default:
        throw new WhittleError('PROTOCOL', `server[${server}] sent ${header.kind}`);
    }
  }

  #fail(reason: WhittleError): void {
    this.#failure ??= reason;
    this.#options.news.beat();
  }

  #header<K extends 'INITIAL' | 'PULL' | 'PUSH', F extends object>(kind: K, fields: F) {
    const { generation, rank } = this.#options;
    return { kind, generation, sender: rank, ...fields };
  }
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
