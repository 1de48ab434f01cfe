import type { CheckpointCommitter as RealCommitter } from '../../server/scheduler/checkpoint-committer.ts';
import type { Shard as RealShard } from '../../server/parameter-server/shard.ts';
import { parseCheckpointName } from '../../shared/checkpoint/manifest-file.ts';
import type { EmbeddedCoordinator as RealCoordinator } from '../../shared/coordination/embedded.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import { planMaskUpdate } from '../../shared/sparsity/mask-update.ts';
import {
  type CommitterInput,
  type CommitterView,
  committerMemo,
  type JournalInput,
  journalMemo,
  type JournalView,
} from './explorer-checkpoints.ts';
import { CUTS, DEAD, digestOf, SERVERS, SPACE, STEPS } from './explorer-job.ts';
import { Interned, type Memo, type MemoNode, Miss } from './explorer-memo.ts';
import {
  type Contents,
  heardName,
  type ServerInput,
  type ServerMachine,
  serverMemo,
  type ServerView,
} from './explorer-server.ts';
import {
  assign,
  type CommitMessage,
  everyServer,
  type PartMessage,
  type PushMessage,
  type State,
} from './explorer-state.ts';

/** The product's classes, and rules of roles that are no function of their own; a mutant changes one. */
export interface Rules {
  readonly Shard: typeof RealShard;
  readonly Committer: typeof RealCommitter;
  readonly Coordinator: typeof RealCoordinator;
  /** Servers refuse what is of another generation than theirs. */
  readonly checkGenerations: boolean;
  /** A new scheduler passes a record that one server has on to the others. */
  readonly passRecordOn: boolean;
  /** Answers that a server keeps. */
  readonly retained: number;
  /** The job. */
  readonly config: RunConfig;
}

/** An invariant that does not hold. */
export class Violation extends Error {}

/** What a cluster can do, on plain states; every method changes the state that it is given. */
export class Model {
  readonly #rules: Rules;
  readonly #contents: Contents = { answers: new Map(), snapshots: new Map(), records: new Map(), sums: new Map() };
  readonly #servers: Memo<ServerInput, ServerMachine, ServerView>[];
  readonly #committers = new Map<number, ReturnType<typeof committerMemo>>();
  readonly #journal: ReturnType<typeof journalMemo>;
  readonly #plans = new Map<string, string>();
  readonly pushes = new Interned<PushMessage>();
  readonly commits = new Interned<CommitMessage>();
  readonly parts = new Interned<PartMessage>();
  /** Ids of the answers of all servers that a worker's weights are of. */
  readonly reads = new Interned<readonly string[]>();
  /** Parts of every published checkpoint, by its clock: the same in all executions. */
  readonly #published = new Map<number, readonly string[]>();
  /** Bits of every shard at every clock, as first seen: all executions must agree. */
  readonly #bits = new Map<string, string>();

  constructor(rules: Rules) {
    this.#rules = rules;
    this.#servers = everyServer().map((rank) =>
      serverMemo(rules.Shard, rules.config, rank, this.#contents, rules.retained),
    );
    this.#journal = journalMemo(rules.Coordinator);
  }

  /** Distinct states of the machines behind the model. */
  get sizes(): { readonly shards: number; readonly committers: number; readonly journals: number } {
    return {
      shards: this.#servers.reduce((sum, memo) => sum + memo.size, 0),
      committers: [...this.#committers.values()].reduce((sum, memo) => sum + memo.size, 0),
      journals: this.#journal.size,
    };
  }

  emptyJournal(): number {
    return this.#journal.root().id;
  }

  journal(state: State): JournalView {
    return this.#journal.at(state.journal).view;
  }

  server(state: State, rank: number): ServerView {
    return this.#servers[rank]!.at(state.servers[rank]!.node).view;
  }

  committer(generation: number, node: number): CommitterView {
    return this.#committersOf(generation).at(node).view;
  }

  /** The live server of the generation that the scheduler is in. */
  isMember(state: State, rank: number): boolean {
    const { up, generation } = state.servers[rank]!;
    return up && generation === state.scheduler.generation && generation > 0;
  }

  /** A new generation from the newest checkpoint; the crash point is behind it. */
  takeGeneration(state: State): void {
    const { latest } = this.journal(state);
    const from = latest === null ? null : { clock: latest.clock, checkpoint: latest.folder };
    const { node, error } = this.#journal.step(state.journal, { op: 'take', from } satisfies JournalInput);
    if (error !== null) throw new Violation(`a generation could not be taken: ${error}`);
    const { generation } = node.view;
    if (generation !== this.journal(state).generation + 1) throw new Violation(`generation ${generation} was not new`);
    state.journal = node.id;
    const { scheduler } = state;
    Object.assign(scheduler, {
      generation,
      phase: 'configuring',
      configured: [],
      holds: [],
      decided: 0,
      begun: from !== null,
    });
    scheduler.committer = this.#committersOf(generation).root().id;
  }

  /** A server takes its shard; one that was dead is started again. */
  configure(state: State, rank: number): void {
    const { from } = this.journal(state);
    let input: ServerInput = { op: 'initialize' };
    if (from !== null) {
      const { clock, generation } = parseCheckpointName(from.checkpoint)!;
      const isThere = state.published.includes(`${clock}/${generation}`);
      const snapshot = this.#published.get(clock)?.[rank];
      if (!isThere || snapshot === undefined)
        throw new Violation(`${from.checkpoint} is the latest and was never published`);
      input = { op: 'restore', clock, maskEpoch: this.#epochAt(clock), snapshot };
    }
    const { generation } = state.scheduler;
    const root = this.#servers[rank]!.root();
    state.servers[rank] = { up: true, generation, node: root.id, told: [] };
    this.#feed(state, rank, input);
    state.scheduler.configured = [...state.scheduler.configured, rank].sort();
    if (state.scheduler.configured.length === SERVERS) state.scheduler.phase = 'running';
  }

  deliverPush(state: State, rank: number, message: number): void {
    const { generation, ...push } = this.pushes.at(message);
    if (this.#rules.checkGenerations && generation !== state.servers[rank]!.generation) return;
    this.#feed(state, rank, { op: 'push', ...push, read: this.reads.at(push.read) });
  }

  deliverCommit(state: State, rank: number): void {
    const { generation, step, maskEpoch, record } = this.commits.at(state.commits[rank]!.shift()!);
    if (this.#rules.checkGenerations && generation !== state.servers[rank]!.generation) return;
    this.#feed(state, rank, { op: 'commit', step, maskEpoch, record });
  }

  /** Parts of sums that `from` has and `to`, of the same generation, has not: `from` asks until it is answered. */
  partsFor(state: State, from: number, to: number): PartMessage[] {
    const [sender, receiver] = [state.servers[from]!, state.servers[to]!];
    if (from === to || !sender.up || !receiver.up || sender.generation !== receiver.generation) return [];
    if (sender.node < 0 || receiver.node < 0) return [];
    const { clock, heard } = this.server(state, to);
    return this.server(state, from).parts.flatMap((part) =>
      part.step <= clock || heard.includes(heardName(from, part))
        ? []
        : [{ generation: sender.generation, sender: from, part }],
    );
  }

  deliverPart(state: State, rank: number, { generation, sender, part }: PartMessage): void {
    if (this.#rules.checkGenerations && generation !== state.servers[rank]!.generation) return;
    this.#feed(state, rank, { op: 'part', sender, part });
  }

  /** The scheduler hears that a server holds; once all do, it decides and sends the record. */
  hearHold(state: State, rank: number): void {
    const { scheduler } = state;
    scheduler.holds = [...scheduler.holds, rank].sort();
    if (scheduler.holds.length < SERVERS) return;
    // The record of a scheduler before may arrive while the new one asks: then it looks again for what there is.
    if (!everyServer().every((each) => this.server(state, each).phase === 'hold')) {
      scheduler.holds = [];
      this.#passRecordOn(state);
      return;
    }
    const { clock, maskEpoch } = this.server(state, rank);
    const record = this.#plan(state, clock);
    this.#sendCommit(state, everyServer(), clock, maskEpoch + 1, record);
  }

  hearPart(state: State, rank: number, clock: number): void {
    const [, maskEpoch, snapshot] = this.server(state, rank).snapshots.find(([at]) => at === clock)!;
    state.servers[rank]!.told = [...state.servers[rank]!.told, clock].sort();
    const { generation, committer } = state.scheduler;
    state.scheduler.committer = this.#advance(generation, committer, {
      op: 'part',
      server: rank,
      clock,
      maskEpoch,
      snapshot,
    }).id;
  }

  /** Store or coordinator does what a committer waits for. Answers the committer's next state. */
  serveCommitter(state: State, generation: number, node: number): number {
    const { waits } = this.committer(generation, node);
    if (waits === null) throw new Error('nothing to do');
    if (waits.op === 'publish') {
      waits.parts.forEach((part, rank) => this.#expectBits(`snapshot ${rank}/${waits.clock}`, part));
      if (waits.parts.length !== SERVERS)
        throw new Violation(`a checkpoint of ${waits.parts.length} shards was published`);
      this.#published.set(waits.clock, waits.parts);
      state.published = [...new Set([...state.published, `${waits.clock}/${generation}`])].sort();
      return this.#advance(generation, node, { op: 'published' }).id;
    }
    const before = this.journal(state);
    const { node: after, error } = this.#journal.step(state.journal, { op: 'commit', generation, clock: waits.clock });
    state.journal = after.id;
    if (generation < before.generation && JSON.stringify(after.view) !== JSON.stringify(before)) {
      throw new Violation(
        `checkpoint ${waits.clock} of generation ${generation} became the latest in ${before.generation}`,
      );
    }
    return this.#advance(generation, node, { op: 'latest', held: error === null }).id;
  }

  /** A new scheduler looks at what there is: it goes on with the generation in force where all servers hold it. */
  recover(state: State): void {
    const { generation, latest } = this.journal(state);
    const knows = state.workers.flatMap(({ up }, worker) => (up ? [worker] : []));
    state.scheduler = {
      up: true,
      generation,
      phase: 'running',
      configured: [...everyServer()],
      holds: [],
      decided: 0,
      committer: generation === 0 ? -1 : this.#committersOf(generation).root().id,
      begun: latest !== null,
      knows,
      owners: assign(knows),
    };
    for (const server of state.servers) server.told = [];
    if (latest?.clock === STEPS) this.finish(state);
    else if (everyServer().every((rank) => this.isMember(state, rank))) this.#passRecordOn(state);
  }

  /** After the last checkpoint is the latest. */
  finish(state: State): void {
    state.finished = true;
    const parts = this.#published.get(STEPS) ?? [];
    const dead = parts.reduce((sum, part, rank) => sum + deadOf(this.#contents.snapshots.get(part)!.mask, rank), 0);
    if (dead !== DEAD) throw new Violation(`${dead} elements are dead at the end, the schedule says ${DEAD}`);
  }

  #passRecordOn(state: State): void {
    if (!this.#rules.passRecordOn) return;
    for (const rank of everyServer()) {
      const { phase, clock, maskEpoch } = this.server(state, rank);
      if (phase !== 'hold') continue;
      const other = everyServer().find((each) => this.server(state, each).maskEpoch === maskEpoch + 1);
      const record = other === undefined ? null : this.server(state, other).record;
      if (record !== null) this.#sendCommit(state, [rank], clock, maskEpoch + 1, record);
    }
  }

  #sendCommit(state: State, ranks: readonly number[], step: number, maskEpoch: number, record: string): void {
    const { generation } = state.scheduler;
    for (const rank of ranks) state.commits[rank]!.push(this.commits.number({ generation, step, maskEpoch, record }));
    state.scheduler.decided = step;
    state.scheduler.holds = [];
  }

  /** The real plan on the real shards, by their states. */
  #plan(state: State, step: number): string {
    const nodes = state.servers.map(({ node }) => node);
    const known = this.#plans.get(nodes.join());
    if (known !== undefined) return known;
    const plan = async (): Promise<void> => {
      const machines = await Promise.all(nodes.map((node, rank) => this.#servers[rank]!.machine(node)));
      const sources = machines.map(({ shard }) => ({
        histogram: async (query: Parameters<RealShard['histogram']>[0]) => shard.histogram(query),
        scores: async (query: Parameters<RealShard['scores']>[0]) => shard.scores(query),
      }));
      const { sparsity, seed } = this.#rules.config;
      const { selections } = await planMaskUpdate({
        rules: sparsity,
        space: SPACE,
        units: { groups: [], refused: new Map() },
        step,
        seed,
        sources,
        cuts: CUTS,
      });
      const id = digestOf(JSON.stringify(selections));
      this.#contents.records.set(id, selections);
      this.#plans.set(nodes.join(), id);
    };
    throw new Miss(plan());
  }

  #feed(state: State, rank: number, input: ServerInput): void {
    const server = state.servers[rank]!;
    const { node, error } = this.#servers[rank]!.step(server.node, input);
    if (error !== null) throw new Violation(`server[${rank}] at ${input.op}: ${error}`);
    server.node = node.id;
    for (const [clock, maskEpoch, id] of node.view.answers)
      this.#expectBits(`answer ${rank}/${clock}/${maskEpoch}`, id);
    for (const [clock, , id] of node.view.snapshots) this.#expectBits(`snapshot ${rank}/${clock}`, id);
  }

  /** All executions give the same bits: as long as that holds, nothing was lost, repeated or mixed. */
  #expectBits(where: string, bits: string): void {
    const first = this.#bits.get(where);
    if (first === undefined) this.#bits.set(where, bits);
    else if (first !== bits) throw new Violation(`${where} has other bits than in another execution`);
  }

  #epochAt(clock: number): number {
    return this.#rules.config.sparsity[0]!.schedule.beginStep <= clock ? 1 : 0;
  }

  #advance(generation: number, node: number, input: CommitterInput): MemoNode<CommitterView> {
    const { node: next, error } = this.#committersOf(generation).step(node, input);
    if (error !== null) throw new Violation(`the committer at ${input.op}: ${error}`);
    return next;
  }

  #committersOf(generation: number): ReturnType<typeof committerMemo> {
    let memo = this.#committers.get(generation);
    if (memo === undefined) this.#committers.set(generation, (memo = committerMemo(this.#rules.Committer, generation)));
    return memo;
  }
}

function deadOf(mask: Uint8Array, rank: number): number {
  let dead = 0;
  for (let i = 0; i < CUTS[rank + 1]! - CUTS[rank]!; i += 1) if (!((mask[i >> 3]! >> (i & 7)) & 1)) dead += 1;
  return dead;
}
