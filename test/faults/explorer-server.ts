import type { Push } from '../../server/parameter-server/push.ts';
import type { Shard as RealShard } from '../../server/parameter-server/shard.ts';
import type { ShardSnapshot } from '../../shared/checkpoint/manifest.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { DyadicNode } from '../../shared/layout/dyadic.ts';
import type { RowNode } from '../../shared/layout/row-tree.ts';
import type { Selection } from '../../shared/sparsity/selection.ts';
import {
  CUTS,
  digestOf,
  gradient,
  initialWeights,
  noise,
  SERVERS,
  SLICES,
  snapshotDigest,
  SPACE,
  STEPS,
} from './explorer-job.ts';
import { Memo } from './explorer-memo.ts';

/** What reaches a server. */
export type ServerInput =
  | { readonly op: 'initialize' }
  | { readonly op: 'restore'; readonly clock: number; readonly maskEpoch: number; readonly snapshot: string }
  | {
      readonly op: 'push';
      readonly step: number;
      readonly slice: number;
      readonly sender: number;
      readonly maskEpoch: number;
      /** Ids of the answers that the gradient was computed from, by server. */
      readonly read: readonly string[];
    }
  | { readonly op: 'commit'; readonly step: number; readonly maskEpoch: number; readonly record: string }
  | { readonly op: 'part'; readonly sender: number; readonly part: SumPart };

/** One server's part of a sum over all of them. */
export interface SumPart {
  readonly sum: 'norm' | 'groups';
  readonly step: number;
  /** Of its nodes. */
  readonly id: string;
}

export interface ServerView {
  readonly clock: number;
  readonly maskEpoch: number;
  readonly phase: string;
  /** Slices of the next step that are in. */
  readonly slices: readonly number[];
  /** Answers that are kept: clock, mask epoch and id of each. */
  readonly answers: readonly (readonly [clock: number, maskEpoch: number, id: string])[];
  /** Snapshots taken in this generation: clock, mask epoch and id. */
  readonly snapshots: readonly (readonly [clock: number, maskEpoch: number, id: string])[];
  /** Its own parts of sums of the newest step that has any. */
  readonly parts: readonly SumPart[];
  /** Those of others that it has for steps to come, as `sum/step/sender`. */
  readonly heard: readonly string[];
  /** The mask commit record that was applied last. */
  readonly record: string | null;
  readonly bits: string;
  /** Bits after the step that is being collected, were all its slices to come now: shows what is hidden. */
  readonly outlook: string;
}

/** Contents by digest: what a message or file says of which a state keeps only the id. */
export interface Contents {
  readonly answers: Map<string, { readonly weights: Uint8Array; readonly mask: Uint8Array }>;
  readonly snapshots: Map<string, ShardSnapshot>;
  readonly records: Map<string, readonly (readonly Selection[])[]>;
  readonly sums: Map<string, readonly DyadicNode[] | readonly RowNode[]>;
}

type ShardClass = typeof RealShard;

/** How many answers a server keeps: those of clock t - 1 and t. */
const RETAINED = 2;

/** The real shard of one server with what its role keeps around it. */
export class ServerMachine {
  readonly shard: RealShard;
  readonly rank: number;
  readonly #contents: Contents;
  readonly #retained: number;
  readonly answers: [number, number, string][] = [];
  readonly snapshots: [number, number, string][] = [];
  readonly parts: SumPart[] = [];
  /** Own parts that have not gone the way back to the shard yet. */
  readonly #own: SumPart[] = [];
  #mask = new Uint8Array(0);
  record: string | null = null;

  constructor(Shard: ShardClass, config: RunConfig, rank: number, contents: Contents, retained: number) {
    this.rank = rank;
    this.#contents = contents;
    this.#retained = retained;
    let applied = 0;
    const share = (sum: SumPart['sum'], step: number, nodes: readonly DyadicNode[] | readonly RowNode[]): void => {
      const part = { sum, step, id: digestOf(sum, JSON.stringify(nodes)) };
      contents.sums.set(part.id, nodes);
      this.parts.push(part);
      this.#own.push(part);
    };
    this.shard = new Shard({
      config,
      space: SPACE,
      start: CUTS[rank]!,
      end: CUTS[rank + 1]!,
      servers: SERVERS,
      stateSize: 0,
      events: {
        published: (clock, maskEpoch, weights, mask) => {
          if (mask) this.#mask = mask.slice();
          const id = digestOf(clock, maskEpoch, weights, this.#mask);
          contents.answers.set(id, { weights: weights.slice(), mask: this.#mask });
          this.answers.push([clock, maskEpoch, id]);
          this.answers.splice(0, this.answers.length - this.#retained);
        },
        snapshot: (clock, maskEpoch, snapshot) => {
          const id = snapshotDigest(snapshot);
          contents.snapshots.set(id, snapshot);
          this.snapshots.push([clock, maskEpoch, id]);
        },
        hold: () => undefined,
        norm: (step, nodes) => share('norm', step, nodes),
        groups: (step, nodes) => share('groups', step, nodes),
        consumed: () => undefined,
        stepDone: (step, _loss, senders) => {
          if (senders.length !== SLICES)
            throw new Error(`step ${step} was applied with ${senders.length} slices of ${SLICES}`);
          if (applied > 0 && step !== applied + 1) throw new Error(`step ${step} was applied after ${applied}`);
          applied = step;
        },
      },
    });
  }

  feed(input: ServerInput): void {
    this.#take(input);
    for (let part = this.#own.shift(); part; part = this.#own.shift()) this.#hear(this.rank, part);
  }

  #hear(sender: number, { sum, step, id }: SumPart): void {
    const nodes = this.#contents.sums.get(id)!;
    if (sum === 'norm') this.shard.peerNorm(step, sender, nodes as readonly DyadicNode[]);
    else this.shard.peerGroups(step, sender, nodes as readonly RowNode[]);
  }

  #take(input: ServerInput): void {
    const { shard, rank } = this;
    switch (input.op) {
      case 'initialize':
        shard.initialize(initialWeights(shard.start, shard.end), new Float32Array(0));
        return;
      case 'restore':
        shard.restore(input.clock, input.maskEpoch, this.#contents.snapshots.get(input.snapshot)!);
        return;
      case 'push': {
        const { step, slice, sender, maskEpoch, read } = input;
        const { mask } = this.#contents.answers.get(read[rank]!)!;
        const values = gradient(step, slice, read.join(), shard.start, mask);
        if (!shard.push(pushOf(step, slice, sender, maskEpoch, values))) throw new Error('NEED_MASK');
        return;
      }
      case 'commit':
        shard.commit(input.step, input.maskEpoch, this.#contents.records.get(input.record)![rank]!);
        this.record = input.record;
        return;
      case 'part':
        // Whoever gets no answer asks again.
        this.#hear(input.sender, input.part);
        this.#hear(input.sender, input.part);
        return;
    }
  }
}

/** All states of one server's shard, by what reached it. */
export function serverMemo(
  Shard: ShardClass,
  config: RunConfig,
  rank: number,
  contents: Contents,
  retained = RETAINED,
): Memo<ServerInput, ServerMachine, ServerView> {
  return new Memo({
    create: () => new ServerMachine(Shard, config, rank, contents, retained),
    feed: (machine, input) => machine.feed(input),
    look: (machine, inputs): ServerView => {
      const { shard } = machine;
      const { clock, maskEpoch, phase } = shard;
      const bits = phase === 'loading' ? '' : snapshotDigest(shard.snapshot());
      const slices = new Set(
        inputs.flatMap((input) =>
          input.op === 'push' && input.step === clock + 1 && input.maskEpoch === maskEpoch ? [input.slice] : [],
        ),
      );
      const { answers, snapshots, parts, record } = machine;
      const heard = inputs.flatMap((input) =>
        input.op === 'part' && input.part.step > clock ? [heardName(input.sender, input.part)] : [],
      );
      const view = {
        clock,
        maskEpoch,
        phase,
        slices: [...slices].sort(),
        answers: [...answers],
        snapshots: [...snapshots],
        parts: parts.filter(({ step }) => step === parts.at(-1)?.step),
        heard: [...new Set(heard)].sort(),
        record,
        bits,
      };
      return { ...view, outlook: outlookOf(shard, slices) };
    },
  });
}

export function heardName(sender: number, { sum, step }: SumPart): string {
  return `${sum}/${step}/${sender}`;
}

/** Lets the missing slices come and looks at the bits: two shards that hide something different differ in them. */
function outlookOf(shard: RealShard, have: ReadonlySet<number>): string {
  if (shard.phase !== 'collecting' || shard.clock >= STEPS) return '';
  const step = shard.clock + 1;
  try {
    for (let slice = 0; slice < SLICES; slice += 1) {
      if (have.has(slice)) continue;
      const values = Float32Array.from({ length: shard.pushedSize() ?? 0 }, (_, i) => noise(step, slice, i));
      shard.push(pushOf(step, slice, 0, shard.maskEpoch, values));
    }
  } catch (reason) {
    return String(reason);
  }
  return `${shard.clock} ${snapshotDigest(shard.snapshot())}`;
}

function pushOf(step: number, slice: number, sender: number, maskEpoch: number, values: Float32Array): Push {
  return { step, slice, sender, maskEpoch, loss: 0, examples: 16, gradient: values, stateDelta: new Float32Array(0) };
}
