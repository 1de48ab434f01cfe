import { SLICES, STEPS } from './explorer-job.ts';
import { type Model, Violation } from './explorer-model.ts';
import { assign, everyServer, idleWorker, type State, type WorkerState } from './explorer-state.ts';

/** One thing that can happen next. */
export interface Action {
  readonly label: string;
  /** Changes the state that it is given, a copy. */
  readonly run: (state: State) => void;
  /** What a cluster does by itself: a state without such is a standstill, unless the run is over. */
  readonly isProgress: boolean;
}

/** All that can happen in a state that has settled; kills first. */
export function actionsOf(model: Model, state: State): Action[] {
  if (state.finished) return [];
  const actions: Action[] = [];
  const add: Add = (label, run, isProgress = true) => void actions.push({ label, run, isProgress });
  if (state.kills > 0) addKills(model, state, add);
  state.ghosts.forEach(({ generation, node }, i) => {
    const what = model.committer(generation, node).waits?.op ?? 'nothing';
    add(`the old scheduler: ${what}`, (next) => serveGhost(model, next, i), false);
  });
  addDeliveries(model, state, add);
  if (state.scheduler.up) addScheduler(model, state, add);
  else add('a new scheduler', (next) => model.recover(next));
  return actions;
}

type Add = (label: string, run: (state: State) => void, isProgress?: boolean) => void;

function addDeliveries(model: Model, state: State, add: Add): void {
  for (const rank of everyServer()) {
    if (!state.servers[rank]!.up) continue;
    state.links.forEach((links, worker) => {
      const head = links[rank]![0];
      if (head === undefined) return;
      const { step, slice } = model.pushes.at(head);
      add(`server[${rank}] gets step ${step}, slice ${slice} from worker[${worker}]`, (next) =>
        model.deliverPush(next, rank, next.links[worker]![rank]!.shift()!),
      );
    });
    state.strays[rank]!.forEach((stray, i) => {
      const { step, slice } = model.pushes.at(stray);
      add(
        `server[${rank}] gets step ${step}, slice ${slice} from the dead`,
        (next) => model.deliverPush(next, rank, next.strays[rank]!.splice(i, 1)[0]!),
        false,
      );
    });
    for (const from of everyServer()) {
      for (const message of model.partsFor(state, from, rank)) {
        const { sum, step } = message.part;
        add(`server[${rank}] gets the ${sum} of step ${step} from server[${from}]`, (next) =>
          model.deliverPart(next, rank, message),
        );
      }
    }
    state.strayParts[rank]!.forEach((stray, i) => {
      const { sum, step } = model.parts.at(stray).part;
      add(
        `server[${rank}] gets the ${sum} of step ${step} from the dead`,
        (next) => model.deliverPart(next, rank, model.parts.at(next.strayParts[rank]!.splice(i, 1)[0]!)),
        false,
      );
    });
    if (state.commits[rank]!.length > 0) {
      add(`server[${rank}] gets the mask commit`, (next) => model.deliverCommit(next, rank));
    }
  }
}

function addScheduler(model: Model, state: State, add: Add): void {
  const { scheduler } = state;
  const { generation, committer, phase } = scheduler;
  const lost = everyServer().filter((rank) => !model.isMember(state, rank));
  const mustRollBack = phase === 'running' ? lost.length > 0 : scheduler.configured.some((rank) => lost.includes(rank));
  if (mustRollBack) {
    add('the scheduler takes a generation', (next) => model.takeGeneration(next));
    return;
  }
  if (generation > 0 && model.committer(generation, committer).waits !== null) {
    const what = model.committer(generation, committer).waits?.op;
    add(`the scheduler: ${what}`, (next) => serveScheduler(model, next));
  }
  if (phase === 'configuring') {
    // In order of ranks: which of two equal servers is the first makes no difference.
    const rank = scheduler.configured.length;
    add(`server[${rank}] is configured`, (next) => model.configure(next, rank));
    return;
  }
  for (const rank of everyServer()) {
    const view = model.server(state, rank);
    if (view.phase === 'hold' && scheduler.decided !== view.clock && !scheduler.holds.includes(rank)) {
      add(`the scheduler hears server[${rank}] hold`, (next) => model.hearHold(next, rank));
    }
  }
  addParts(model, state, add);
  state.workers.forEach(({ up }, worker) => {
    if (up) return;
    if (scheduler.knows.includes(worker)) {
      add(`the scheduler misses worker[${worker}]`, ({ scheduler: next }) => {
        next.knows = next.knows.filter((each) => each !== worker);
        next.owners = assign(next.knows);
      });
    } else {
      add(`worker[${worker}] is started again`, (next) => {
        next.workers[worker] = idleWorker(true);
        next.scheduler.knows = [...next.scheduler.knows, worker].sort();
        next.scheduler.owners = assign(next.scheduler.knows);
      });
    }
  });
}

/** Parts of one checkpoint are heard one right after the other: nothing that dies in between makes a difference. */
function addParts(model: Model, state: State, add: Add): void {
  const latest = model.journal(state).latest?.clock ?? -1;
  // What the scheduler before it had under way may be done after the new one has looked.
  if (latest === STEPS) add('the scheduler finds the last checkpoint', (next) => model.finish(next));
  if (latest >= 0 && !state.scheduler.begun) {
    add('the scheduler finds checkpoint 0', (next) => void (next.scheduler.begun = true));
  }
  for (const [clock] of model.server(state, 0).snapshots) {
    if (clock <= latest || state.servers[0]!.told.includes(clock)) continue;
    if (!everyServer().every((rank) => model.server(state, rank).snapshots.some(([at]) => at === clock))) continue;
    add(`the scheduler hears of the parts of checkpoint ${clock}`, (next) => {
      for (const rank of everyServer()) model.hearPart(next, rank, clock);
    });
  }
}

function serveScheduler(model: Model, state: State): void {
  const { scheduler } = state;
  scheduler.committer = model.serveCommitter(state, scheduler.generation, scheduler.committer);
  const { committed } = model.committer(scheduler.generation, scheduler.committer);
  if (committed >= 0) scheduler.begun = true;
  if (committed === STEPS) model.finish(state);
}

function serveGhost(model: Model, state: State, i: number): void {
  const ghost = state.ghosts[i]!;
  ghost.node = model.serveCommitter(state, ghost.generation, ghost.node);
}

function addKills(model: Model, state: State, add: Add): void {
  state.workers.forEach(({ up }, worker) => {
    if (!up) return;
    add(
      `kill worker[${worker}]`,
      (next) => {
        next.kills -= 1;
        next.workers[worker] = idleWorker(false);
        for (const rank of everyServer()) next.strays[rank]!.push(...next.links[worker]![rank]!.splice(0));
      },
      false,
    );
  });
  for (const rank of everyServer()) {
    if (!state.servers[rank]!.up) continue;
    add(
      `kill server[${rank}]`,
      (next) => {
        next.kills -= 1;
        for (const to of everyServer())
          for (const message of model.partsFor(next, rank, to)) next.strayParts[to]!.push(model.parts.number(message));
        next.servers[rank] = { up: false, generation: 0, node: -1, told: [] };
      },
      false,
    );
  }
  if (!state.scheduler.up) return;
  add('kill scheduler', (next) => killScheduler(model, next), false);
  if (state.commits.every((queue) => queue.length === 0)) return;
  add(
    'kill scheduler, with the mask commits that it was sending',
    (next) => {
      killScheduler(model, next);
      for (const queue of next.commits) queue.length = 0;
    },
    false,
  );
}

function killScheduler(model: Model, state: State): void {
  state.kills -= 1;
  const { generation, committer } = state.scheduler;
  // Killed, or only taken for dead: what it was about to do may still happen.
  if (generation > 0 && model.committer(generation, committer).waits !== null) {
    state.ghosts.push({ generation, node: committer });
  }
  state.scheduler = { ...state.scheduler, up: false, holds: [], configured: [], decided: 0, committer: -1, knows: [] };
}

/**
 * Does at once what needs no exploring, because doing it later would change nothing that anybody sees: answers reach
 * workers, workers compute and hand slices to their links, what can have no effect any more goes.
 */
export function settle(model: Model, state: State, checkGenerations: boolean): void {
  for (const rank of everyServer()) {
    const server = state.servers[rank]!;
    const arrives = ({ generation }: { readonly generation: number }): boolean =>
      server.up && (!checkGenerations || generation === server.generation);
    for (const links of state.links) links[rank] = links[rank]!.filter((push) => arrives(model.pushes.at(push)));
    // A shard answers what is at or below its clock without a change; links that live show that.
    const clock = server.up && server.node >= 0 ? model.server(state, rank).clock : -1;
    state.strays[rank] = state.strays[rank]!.filter((push) => {
      const message = model.pushes.at(push);
      return arrives(message) && message.step > clock;
    });
    state.strayParts[rank] = state.strayParts[rank]!.filter((stray) => {
      const message = model.parts.at(stray);
      return arrives(message) && message.part.step > clock;
    });
    state.commits[rank] = state.commits[rank]!.filter((commit) => arrives(model.commits.at(commit)));
  }
  const latest = model.journal(state).latest?.clock ?? -1;
  for (const server of state.servers) server.told = server.told.filter((clock) => clock > latest);
  state.ghosts = state.ghosts.filter(({ generation, node }) => model.committer(generation, node).waits !== null);
  for (const [worker, each] of state.workers.entries()) if (each.up) advance(model, state, worker, each);
}

function advance(model: Model, state: State, worker: number, each: WorkerState): void {
  const { scheduler } = state;
  const isNew =
    scheduler.up && scheduler.begun && scheduler.phase === 'running' && each.generation !== scheduler.generation;
  if (isNew && everyServer().every((rank) => model.isMember(state, rank))) begin(model, state, worker, each);
  if (each.generation === 0) return;
  const isServed = everyServer().every(
    (rank) => state.servers[rank]!.up && state.servers[rank]!.generation === each.generation,
  );
  if (isServed) while (take(model, state, each, each.clock + 1)) each.pushed = [];
  if (each.clock >= STEPS) return;
  for (let slice = 0; slice < SLICES; slice += 1) {
    if (scheduler.owners[slice] !== worker || each.pushed.includes(slice)) continue;
    each.pushed = [...each.pushed, slice].sort();
    for (const rank of everyServer()) {
      const { up, generation } = state.servers[rank]!;
      if (!up || generation !== each.generation) continue;
      const push = { generation, step: each.clock + 1, slice, sender: worker };
      state.links[worker]![rank]!.push(
        model.pushes.number({ ...push, maskEpoch: each.maskEpochs[rank]!, read: each.read }),
      );
    }
  }
}

/** A worker that joins asks all servers for their clocks and pulls the smallest. */
function begin(model: Model, state: State, worker: number, each: WorkerState): void {
  Object.assign(each, idleWorker(true), { generation: state.scheduler.generation });
  const clocks = everyServer().map((rank) => model.server(state, rank).answers.at(-1)?.[0] ?? 0);
  if (!take(model, state, each, Math.min(...clocks))) {
    throw new Violation(
      `worker[${worker}] finds no clock that all servers can give: they are at ${clocks.join(' and ')}`,
    );
  }
}

/** False where some server does not have the weights of this clock. */
function take(model: Model, state: State, each: WorkerState, clock: number): boolean {
  const answers = everyServer().map((rank) => model.server(state, rank).answers.find(([at]) => at === clock));
  if (!answers.every((answer) => answer !== undefined)) return false;
  each.clock = clock;
  each.maskEpochs = answers.map(([, maskEpoch]) => maskEpoch);
  each.read = model.reads.number(answers.map(([, , id]) => id));
  return true;
}
