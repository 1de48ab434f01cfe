import type { Header__Output } from '../protos/generated/whittle/Header.ts';
import type { RunConfig } from '../shared/config/types.ts';
import { decode, encode, roundingKey, scaleOf } from '../shared/codec/codec.ts';
import { WhittleError } from '../shared/errors.ts';
import { openExchange, parameterServerClient } from '../shared/rpc/client.ts';
import { withDeadline } from '../shared/rpc/deadline.ts';
import type { FrameStream } from '../shared/rpc/frame-stream.ts';
import { failpointAfterSend } from '../shared/telemetry/failpoints.ts';
import { ShardView } from './shard-view.ts';

/** Longest wait for weights; a mask update or a slow worker elsewhere is within it. */
const WEIGHTS_DEADLINE_MS = 600_000;

export interface PulledWeights {
  readonly clock: number;
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

interface Link {
  readonly stream: FrameStream;
  readonly close: () => void;
  maskEpoch: number;
  weights: { clock: number; body: Uint8Array<ArrayBuffer>; stateBytes: number } | null;
}

/** A worker's streams to all servers: pushes cut by shard, weights joined from shards. */
export class ServerLinks {
  readonly #config: RunConfig;
  readonly #generation: number;
  readonly #rank: number;
  readonly #links: Link[];
  readonly #view: ShardView;
  #maskChanged = true;
  #arrived: () => void = () => undefined;
  readonly #onFailure: (error: WhittleError) => void;

  constructor(options: {
    readonly config: RunConfig;
    readonly generation: number;
    readonly rank: number;
    readonly cuts: readonly number[];
    readonly servers: readonly string[];
    readonly onFailure: (error: WhittleError) => void;
  }) {
    this.#config = options.config;
    this.#generation = options.generation;
    this.#rank = options.rank;
    this.#onFailure = options.onFailure;
    this.#view = new ShardView(options.cuts);
    this.#links = options.servers.map((address, server) => {
      const client = parameterServerClient(address);
      const stream = openExchange(client, { peer: `server[${server}] at ${address}` });
      const link: Link = { stream, close: () => client.close(), maskEpoch: -1, weights: null };
      stream.onMessage((header, body) => this.#receive(server, link, header, body));
      void stream.closed.then((reason) => {
        if (reason) options.onFailure(reason);
      });
      return link;
    });
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

  /** Asks every server for the weights of `clock`. */
  async pull(clock: number, signal?: AbortSignal): Promise<PulledWeights> {
    await Promise.all(this.#links.map((link) => link.stream.send(this.#header('PULL', { clock }))));
    return this.weights(clock, signal);
  }

  /** Sends one slice to every server. Resolves when the bytes are handed to the transport. */
  async push(push: SlicePush): Promise<void> {
    const format = this.#config.wire.push;
    const key = roundingKey(this.#config.seed, push.step, push.slice);
    // One scale for the whole slice, and random numbers by position, so that shard cuts change no bit.
    const scale = format === 'int8' ? scaleOf(push.gradient) : undefined;
    await Promise.all(
      this.#links.map(async (link, server) => {
        const fault = server === 1 ? failpointAfterSend('push.half-sent', push.step) : undefined;
        if (fault) await fault;
        const [begin, end] = this.#view.packedRange(server);
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
        return link.stream.send({ ...header, maskEpoch: link.maskEpoch }, [body, state]);
      }),
    );
  }

  /** Waits for the weights of `clock` from every server. */
  async weights(clock: number, signal?: AbortSignal): Promise<PulledWeights> {
    const complete = (): boolean => this.#links.every((link) => link.weights?.clock === clock);
    while (!complete()) {
      const late = this.#links.flatMap((link, server) => (link.weights?.clock === clock ? [] : [`server[${server}]`]));
      await withDeadline(
        new Promise<void>((resolve) => (this.#arrived = resolve)),
        WEIGHTS_DEADLINE_MS,
        `weights of step ${clock} from ${late.join(', ')}`,
        signal,
      );
    }
    return this.#join(clock);
  }

  async close(): Promise<void> {
    await Promise.all(this.#links.map((link) => link.stream.close()));
    for (const link of this.#links) link.close();
  }

  #receive(server: number, link: Link, header: Header__Output, body: Uint8Array<ArrayBuffer>): void {
    if (header.generation !== this.#generation) return;
    switch (header.kind) {
      case 'MASK':
        link.maskEpoch = header.maskEpoch;
        this.#view.setMask(server, body);
        this.#maskChanged = true;
        return;
      case 'WEIGHTS':
        link.weights = { clock: header.clock, body, stateBytes: header.stateBytes };
        this.#arrived();
        return;
      case 'REFUSED':
        this.#onFailure(
          new WhittleError(
            'PROTOCOL',
            `server[${server}] refused slice ${header.slice} of step ${header.clock}: ${header.reason}`,
          ),
        );
        return;
      default:
        throw new WhittleError('PROTOCOL', `server[${server}] sent ${header.kind}`);
    }
  }

  #join(clock: number): PulledWeights {
    const total = this.#view.packedRange(this.#links.length - 1)[1];
    const packed = new Float32Array(total);
    let state = new Float32Array(0);
    this.#links.forEach((link, server) => {
      const { weights } = link;
      if (!weights) throw new WhittleError('INTERNAL', `no weights of server[${server}]`);
      const cut = weights.body.byteLength - weights.stateBytes;
      const [begin, end] = this.#view.packedRange(server);
      packed.set(decode(this.#config.wire.pull, weights.body.subarray(0, cut), end - begin), begin);
      if (weights.stateBytes > 0) state = new Float32Array(weights.body.slice(cut).buffer);
      link.weights = null;
    });
    const mask = this.#maskChanged ? this.#view.mask() : null;
    this.#maskChanged = false;
    return { clock, packed, state, mask };
  }

  #header<K extends 'INITIAL' | 'PULL' | 'PUSH', F extends object>(kind: K, fields: F) {
    return { kind, generation: this.#generation, sender: this.#rank, ...fields };
  }
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
