import { parentPort, type TransferListItem } from 'node:worker_threads';
import { decode } from '../../shared/codec/codec.ts';
import { writeShardFile } from '../../shared/checkpoint/shard-file.ts';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import type { ShardSnapshot } from '../../shared/checkpoint/manifest.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { DyadicNode } from '../../shared/layout/dyadic.ts';
import type { RowNode } from '../../shared/layout/row-tree.ts';
import { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { emitFromThread, serveThread } from '../../shared/rpc/thread-calls.ts';
import type { HistogramQuery, ScoresQuery } from '../../shared/sparsity/selection.ts';
import { failpoint } from '../../shared/telemetry/failpoints.ts';
import type { Push } from './push.ts';
import type { CommitMessage, ConfigureShard, PushMessage } from './shard-messages.ts';
import { Shard } from './shard.ts';
import { ShardHistory } from './shard-history.ts';

/** Runs one shard away from the rpc thread, so that reducing, applying and hashing never delay a heartbeat. */
const port = parentPort;
if (!port) throw new Error('shard-thread runs in a worker thread');

let shard: Shard | null = null;
let options: ConfigureShard | null = null;
let history: ShardHistory | null = null;
let writing: Promise<void> = Promise.resolve();
const consumers = new Map<Push, () => void>();

function configured(): { shard: Shard; options: ConfigureShard } {
  if (!shard || !options) throw new WhittleError('PROTOCOL', 'the shard is not configured yet');
  return { shard, options };
}

serveThread(port, {
  async configure(message: ConfigureShard) {
    const space = ParameterSpace.of(message.model.parameters);
    const stateSize =
      message.rank === 0
        ? message.model.states.reduce((sum, state) => sum + state.shape.reduce((a, b) => a * b, 1), 0)
        : 0;
    // Pushes of an older generation that still wait will never be reduced: their bytes are free again.
    for (const consumed of consumers.values()) consumed();
    consumers.clear();
    const { generation } = message;
    const tell = (event: string, payload: object, transfer: readonly TransferListItem[] = []): void =>
      emit(event, { generation, ...payload }, transfer);
    const ofGeneration = new ShardHistory(message);
    const next = new Shard({
      config: message.config,
      space,
      start: message.start,
      end: message.end,
      servers: message.servers,
      stateSize,
      events: {
        published: (clock, maskEpoch, weights, mask) => {
          ofGeneration.published(clock, maskEpoch, mask);
          tell('published', { clock, maskEpoch, weights, mask }, [weights.buffer as ArrayBuffer]);
        },
        hold: (step) => {
          failpoint('hold.reached', step);
          tell('hold', { step });
        },
        norm: (step, nodes) => tell('norm', { step, nodes }),
        groups: (step, nodes) => tell('groups', { step, nodes }),
        snapshot: (clock, maskEpoch, snapshot) => {
          // One after another: a checkpoint must not overtake an older one, which would then be cleared away half written.
          writing = writing.then(() => write(message, ofGeneration, clock, maskEpoch, snapshot));
        },
        consumed: (push) => {
          consumers.get(push)?.();
          consumers.delete(push);
        },
        stepDone: (step, loss, sliceWorkers) => {
          ofGeneration.applied(step, sliceWorkers, next.maskEpoch);
          failpoint('step.applied', step);
          tell('stepDone', { step, loss, sliceWorkers, at: performance.now() });
        },
      },
    });
    options = message;
    shard = next;
    history?.close();
    history = ofGeneration;
    if (message.restoreFrom) {
      const manifest = await new CheckpointStore(message.runDirectory).readOwn(message.restoreFrom);
      const snapshot = await snapshotOf(message.restoreFrom, message);
      ofGeneration.taken(next, manifest);
      next.restore(manifest.clock, manifest.maskEpoch, snapshot);
      failpoint('rollback.restored', manifest.clock);
    } else ofGeneration.taken(next, { clock: 0, maskEpoch: 0 });
    return { clock: next.clock, maskEpoch: next.maskEpoch };
  },

  initialize({ body, stateBytes }: { body: Uint8Array; stateBytes: number }) {
    const { weights, state } = split(body, stateBytes);
    configured().shard.initialize(floats(weights), state);
  },

  /** Answers once the push is reduced or dropped: true, or false where its mask epoch is not in force. */
  push(message: PushMessage): Promise<boolean> {
    const { shard, options } = configured();
    const { weights, state } = split(message.body, message.stateBytes);
    history?.push(shard, message);
    const size = shard.pushedSize(message.step, message.maskEpoch);
    if (size === null) return Promise.resolve(message.step <= shard.clock);
    const push: Push = {
      step: message.step,
      slice: message.slice,
      sender: message.sender,
      maskEpoch: message.maskEpoch,
      loss: message.loss,
      examples: message.examples,
      gradient: decode(options.config.wire.push, weights, size),
      stateDelta: state,
    };
    return new Promise((resolve, reject) => {
      let accepted = true;
      let done = false;
      consumers.set(push, () => {
        done = true;
        // The verdict is the return value of push(), which is not there yet where it consumes at once.
        queueMicrotask(() => resolve(accepted));
      });
      try {
        accepted = shard.push(push);
      } catch (error) {
        if (!done) consumers.delete(push);
        reject(error);
      }
    });
  },

  peerNorm({ step, sender, nodes }: { step: number; sender: number; nodes: readonly DyadicNode[] }) {
    configured().shard.peerNorm(step, sender, nodes);
  },
  peerGroups({ step, sender, nodes }: { step: number; sender: number; nodes: readonly RowNode[] }) {
    configured().shard.peerGroups(step, sender, nodes);
  },
  histogram: (query: HistogramQuery) => configured().shard.histogram(query),
  scores: (query: ScoresQuery) => configured().shard.scores(query),
  async commit(record: CommitMessage): Promise<number> {
    const { shard, options } = configured();
    const saved = record.restoreFrom === null ? null : await snapshotOf(record.restoreFrom, options);
    const survivors = shard.commit(record.step, record.maskEpoch, record.selections, saved);
    failpoint('commit.applied', record.step);
    return survivors;
  },
  /** Answers null, or the shard's clock where it is already past. */
  cutAt({ clock, stop }: { clock: number; stop: boolean }): number | null {
    const { shard } = configured();
    return shard.cutAt(clock, stop) ? null : shard.newest;
  },
});

/** What a checkpoint of this run holds of the shard. */
async function snapshotOf(
  checkpoint: string,
  { runDirectory, rank, start, end }: ConfigureShard,
): Promise<ShardSnapshot> {
  const store = new CheckpointStore(runDirectory);
  return store.readRange(await store.readOwn(checkpoint), start, end, { withState: rank === 0 });
}

async function write(
  { runDirectory, rank, generation }: ConfigureShard,
  history: ShardHistory,
  clock: number,
  maskEpoch: number,
  snapshot: ShardSnapshot,
): Promise<void> {
  try {
    const folder = await new CheckpointStore(runDirectory).create(clock, generation);
    const shard = await writeShardFile(folder, rank, snapshot);
    history.written(clock, maskEpoch, snapshot, shard);
    emit('shardWritten', { generation, clock, maskEpoch, shard });
  } catch (reason) {
    const error = WhittleError.from(reason, 'CHECKPOINT');
    emit('checkpointFailed', { generation, clock, code: error.code, message: error.rawMessage });
  }
}

function emit(event: string, payload: unknown, transfer: readonly TransferListItem[] = []): void {
  if (port) emitFromThread(port, event, payload, transfer);
}

/** Body of a push or of initial values: packed values, then `stateBytes` of float32 state. */
function split(body: Uint8Array, stateBytes: number): { weights: Uint8Array; state: Float32Array } {
  if (stateBytes > body.byteLength || stateBytes % 4 !== 0) {
    throw new WhittleError('PROTOCOL', `${stateBytes} bytes of state in a body of ${body.byteLength}`);
  }
  const cut = body.byteLength - stateBytes;
  return { weights: body.subarray(0, cut), state: floats(body.slice(cut)) };
}

function floats(bytes: Uint8Array): Float32Array {
  if (bytes.byteOffset % 4 !== 0) return floats(bytes.slice());
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}
