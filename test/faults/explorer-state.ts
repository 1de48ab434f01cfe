import { SERVERS, SLICES, WORKERS } from './explorer-job.ts';
import type { SumPart } from './explorer-server.ts';

/** A push on its way. */
export interface PushMessage {
  readonly generation: number;
  readonly step: number;
  readonly slice: number;
  readonly sender: number;
  readonly maskEpoch: number;
  readonly read: number;
}

/** A server's part of a sum over all servers. */
export interface PartMessage {
  readonly generation: number;
  readonly sender: number;
  readonly part: SumPart;
}

export interface CommitMessage {
  readonly generation: number;
  readonly step: number;
  readonly maskEpoch: number;
  readonly record: string;
}

export interface ServerState {
  up: boolean;
  generation: number;
  /** Number of its state in the table of its shard. */
  node: number;
  /** Clocks of the checkpoint parts that the present scheduler was told of. */
  told: number[];
}

export interface WorkerState {
  up: boolean;
  /** 0: it has not begun. */
  generation: number;
  clock: number;
  /** Number of the answers that its weights are of, and their mask epochs, by server. */
  read: number;
  maskEpochs: number[];
  /** Slices pushed for the next step. */
  pushed: number[];
}

export interface SchedulerState {
  up: boolean;
  generation: number;
  phase: 'configuring' | 'running';
  /** Servers that have taken their shard. */
  configured: number[];
  /** Servers that it knows to hold. */
  holds: number[];
  /** Step of the mask commit that it decided or passed on. */
  decided: number;
  /** Number of its committer's state. */
  committer: number;
  /** Workers were told to begin: checkpoint 0 is there. */
  begun: boolean;
  /** Workers that it takes to be alive. */
  knows: number[];
  /** Worker of each slice, -1: nobody. */
  owners: number[];
}

/** A whole cluster at one moment. Plain data: `keyOf` tells states apart. */
export interface State {
  kills: number;
  servers: ServerState[];
  workers: WorkerState[];
  scheduler: SchedulerState;
  journal: number;
  /** Numbers of the pushes on their way, in order, by worker and server. */
  links: number[][][];
  /** Pushes by server that a dead worker left on the way; they may still arrive, in any order, or not. */
  strays: number[][];
  /** Parts of sums by server that a dead one left on the way, as pushes of dead workers. */
  strayParts: number[][];
  /** Numbers of the mask commits on their way, by server. */
  commits: number[][];
  /** Checkpoints whose manifest is in place, as `clock/generation`. */
  published: string[];
  /** Committers of schedulers that were given up and may still act: generation and number of the state. */
  ghosts: { generation: number; node: number }[];
  finished: boolean;
}

const RANKS: readonly number[] = Array.from({ length: SERVERS }, (_, server) => server);

export function everyServer(): readonly number[] {
  return RANKS;
}

/** Before the scheduler has taken its first generation; all processes are up. */
export function initialState(kills: number, emptyJournal: number): State {
  return {
    kills,
    servers: everyServer().map(() => ({ up: true, generation: 0, node: -1, told: [] })),
    workers: Array.from({ length: WORKERS }, () => idleWorker(true)),
    scheduler: {
      up: true,
      generation: 0,
      phase: 'running',
      configured: [],
      holds: [],
      decided: 0,
      committer: -1,
      begun: false,
      knows: Array.from({ length: WORKERS }, (_, worker) => worker),
      owners: assign(Array.from({ length: WORKERS }, (_, worker) => worker)),
    },
    journal: emptyJournal,
    links: Array.from({ length: WORKERS }, () => everyServer().map(() => [])),
    strays: everyServer().map(() => []),
    strayParts: everyServer().map(() => []),
    commits: everyServer().map(() => []),
    published: [],
    ghosts: [],
    finished: false,
  };
}

export function idleWorker(up: boolean): WorkerState {
  return { up, generation: 0, clock: 0, read: 0, maskEpochs: [], pushed: [] };
}

/** Inner arrays are replaced, never changed, but for the queues, which are copied. */
export function copyState(state: State): State {
  return {
    ...state,
    servers: state.servers.map((server) => ({ ...server })),
    workers: state.workers.map((worker) => ({ ...worker })),
    scheduler: { ...state.scheduler },
    links: state.links.map((links) => links.map((queue) => [...queue])),
    strays: state.strays.map((queue) => [...queue]),
    strayParts: state.strayParts.map((queue) => [...queue]),
    commits: state.commits.map((queue) => [...queue]),
    ghosts: state.ghosts.map((ghost) => ({ ...ghost })),
  };
}

/** All of a state as text. By hand: it is the hottest line of the search, and JSON takes ten times as long. */
export function keyOf(state: State): string {
  const { scheduler } = state;
  let key = `${state.kills} ${state.journal} ${state.published.join()} ${state.finished}`;
  for (const { up, generation, node, told } of state.servers) key += `|${up} ${generation} ${node} ${told.join()}`;
  for (const { up, generation, clock, read, maskEpochs, pushed } of state.workers) {
    key += `|${up} ${generation} ${clock} ${read} ${maskEpochs.join()} ${pushed.join()}`;
  }
  const { up, generation, phase, configured, holds, decided, committer, begun, knows, owners } = scheduler;
  key += `|${up} ${generation} ${phase} ${configured.join()} ${holds.join()} ${decided} ${committer} ${begun} ${knows.join()} ${owners.join()}`;
  for (const links of state.links) for (const queue of links) key += `|${queue.join()}`;
  for (const queue of state.strays) key += `|${queue.join()}`;
  for (const queue of state.strayParts) key += `|${queue.join()}`;
  for (const queue of state.commits) key += `|${queue.join()}`;
  for (const ghost of state.ghosts) key += `|${ghost.generation} ${ghost.node}`;
  return key;
}

/** Slice i belongs to worker i, or to the first that lives. */
export function assign(alive: readonly number[]): number[] {
  return Array.from({ length: SLICES }, (_, slice) => (alive.includes(slice) ? slice : (alive[0] ?? -1)));
}
