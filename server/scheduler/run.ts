import type { Report__Output } from '../../protos/generated/whittle/Report.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { WhittleError } from '../../shared/errors.ts';
import { dueInterventions } from '../../shared/interventions/calendar.ts';
import { type Adoption, adoptionOf } from './adoption.ts';
import type { Member, MemberListener } from './members.ts';
import { endingOf } from './run/ending.ts';
import { Gathering } from './run/gathering.ts';
import { MaskUpdates } from './run/mask-updates.ts';
import { receive } from './run/reports.ts';
import { RunCheckpoints } from './run/run-checkpoints.ts';
import { RunEnd } from './run/run-end.ts';
import type { RunOptions, RunOutcome } from './run/run-options.ts';
import { ServerGroup } from './run/server-group.ts';
import { StopCut } from './run/stop-cut.ts';
import { Training } from './run/training.ts';
import { Workforce } from './run/workforce.ts';
import type { StepTimes } from './stragglers.ts';
import { WorkerDescriptions } from './worker-descriptions.ts';

const WATCH_MS = 500;

/**
 * One generation of a run, from the first member to the last checkpoint or to the loss of a server. `conduct` walks
 * through the phases in order; what members report meanwhile goes to the parts in `run/`, which move the signals that
 * the phases wait for. Workers may come and go at any time.
 */
export class Run implements MemberListener {
  readonly #options: RunOptions;
  readonly #end: RunEnd;
  readonly #descriptions: WorkerDescriptions;
  readonly #gathering: Gathering;
  readonly #servers: ServerGroup;
  readonly #workforce: Workforce;
  readonly #training: Training;
  readonly #masks: MaskUpdates;
  readonly #checkpoints: RunCheckpoints;
  readonly #stopCut: StopCut;
  /** See Describe. */
  readonly #left: string;

  constructor(options: RunOptions) {
    this.#options = options;
    const { config, members, progress, log, takeover } = options;
    const start = takeover ? takeover.latest : options.restored;
    this.#left = start?.model.shrunkFrom === undefined ? '' : JSON.stringify(start.model);
    const end = (this.#end = new RunEnd(options));
    const { signal } = end;
    const descriptions = (this.#descriptions = new WorkerDescriptions(
      (message) => log.warn(message),
      start ? { description: start.model, fingerprint: start.fingerprint } : null,
    ));
    const servers = (this.#servers = new ServerGroup({ ...options, signal }));
    const workforce = (this.#workforce = new Workforce({ ...options, descriptions, servers }));
    const stopCut = (this.#stopCut = new StopCut({ members, progress, steps: config.training.steps }));
    const maybeOver = (): void => this.#maybeOver();
    const training = (this.#training = new Training({
      ...{ run: options, end, descriptions, workforce },
      onProgress: maybeOver,
    }));
    const masks = (this.#masks = new MaskUpdates({
      ...{ ...options, end, maskEpoch: start?.maskEpoch ?? 0 },
      onCommitted: () => training.advance(),
    }));
    this.#gathering = new Gathering({ ...options, described: () => workforce.members.length, signal });
    this.#checkpoints = new RunCheckpoints({
      ...{ run: options, end, descriptions },
      maskSettled: () => masks.settled(),
      isLast: (clock) => clock >= config.training.steps || (stopCut.clock >= 0 && clock >= stopCut.clock),
      onCommitted: maybeOver,
    });
  }

  /** The newest checkpoint of the run: the one to resume from. */
  get lastManifest(): Manifest | null {
    return this.#checkpoints.last;
  }

  /** Walks this generation through its phases; never rejects. */
  async conduct(): Promise<RunOutcome> {
    const { members } = this.#options;
    members.listen(this);
    void this.#phases().catch((reason: unknown) => this.#end.broken(WhittleError.from(reason)));
    const watch = setInterval(() => {
      members.checkSilence();
      this.#training.watch();
    }, WATCH_MS);
    const outcome = await this.#end.outcome;
    clearInterval(watch);
    this.#end.abort();
    await this.#checkpoints.idle();
    this.#servers.close();
    return outcome;
  }

  /** How long a worker takes for a step; null where not known. */
  stepTimesOf(worker: number): StepTimes | null {
    return this.#workforce.stepTimesOf(worker);
  }

  /** Why the run stops, or null. */
  get stopping(): string | null {
    return this.#stopCut.reason;
  }

  /** Checkpoints at the next clock that all servers can still reach together, then ends the run STOPPED. */
  stop(reason: string): void {
    if (this.stopping !== null || this.#end.isOver) return;
    this.#stopCut.because(reason);
    this.#options.log.info({ reason }, 'stopping');
    this.#options.progress.say(`stopping: ${reason}`);
    if (this.#training.isOn) this.#stopCut.propose();
    else if (!this.#options.takeover) this.#end.set({ state: 'STOPPED', manifest: this.lastManifest });
  }

  /** Another scheduler holds the run: this one acts no more. */
  abandon(): void {
    this.#end.set({ state: 'ABANDONED' });
  }

  /** What a supervisor saw; see the RoleExited rpc. Answers whether the run goes on. */
  roleExited(role: 'server' | 'worker', rank: number, message: string, replaced: boolean): boolean {
    if (this.#end.isOver) return false;
    const { config, members } = this.#options;
    const others = members.of('worker').filter((member) => member.rank !== rank).length;
    if (!replaced && (role === 'server' || others < config.cluster.workers.min))
      this.#end.fail({ role, rank }, new WhittleError('ROLE_LOST', message));
    else members.exited(role, rank, message);
    return !this.#end.isOver || replaced;
  }

  joined(member: Member): void {
    const { rank, role, address, pid } = member;
    this.#options.log.info({ member: `${role}[${rank}]`, address, pid }, 'registered');
    this.#recordMember(member, 'joined');
    if (role === 'worker') this.#options.members.send(member, { describe: { left: this.#left } });
    this.#gathering.check();
  }

  lost(member: Member, error: WhittleError): void {
    if (this.#end.isOver) return;
    this.#recordMember(member, member.leaving ? 'left' : 'lost');
    if (this.#servers.isLostWith(member)) this.#end.rollBack(error);
    else if (member.role === 'worker') this.#workerGone(member.rank, member.leaving ? 'left' : error.rawMessage);
  }

  reported(member: Member, report: Report__Output): void {
    try {
      receive(member, report, {
        generation: this.#options.generation,
        servers: this.#servers,
        masks: this.#masks,
        training: this.#training,
        checkpoints: this.#checkpoints,
        stopCut: this.#stopCut,
        end: this.#end,
        workerDescribed: (worker, json) => this.#workerDescribed(worker, json),
        workerLeaves: (worker) => this.#workerLeaves(worker),
      });
    } catch (reason) {
      this.#end.fail(member, WhittleError.from(reason, 'PROTOCOL'));
    }
  }

  async #phases(): Promise<void> {
    const { takeover, members, generation, restored } = this.#options;
    await this.#gathering.all();
    if (takeover) {
      const adoption = adoptionOf(members.of('server'), generation, takeover.latest);
      if (adoption) return this.#adopt(adoption);
      throw new WhittleError('ROLE_LOST', 'the servers lost what they held while there was no scheduler');
    }
    await this.#configure();
    if (!this.#end.isOver) this.#begin(restored?.clock ?? 0);
  }

  /** Gives every server its shard, of the checkpoint or with initial values. */
  async #configure(): Promise<void> {
    await this.#gathering.descriptions();
    const { description } = this.#descriptions.agreed();
    this.#options.progress.say('servers take their shards');
    this.#masks.begin(this.#servers.connect(description));
    await this.#servers.configure(description, () => this.#workforce.members);
    if (!this.#options.restored) await this.#checkpoints.first();
    this.#servers.initialized();
  }

  /** Goes on where the scheduler before was lost. */
  async #adopt(adoption: Adoption): Promise<void> {
    const { log, progress } = this.#options;
    log.info({ step: adoption.clock }, 'taking over: all servers hold the run');
    await this.#masks.adopt(this.#servers.connect(this.#descriptions.agreed().description), adoption);
    if (adoption.stopAt !== null) this.#stopCut.because('the scheduler before was stopping the run');
    for (const { kept } of adoption.servers) progress.sawClock(kept.clock);
    this.#begin(progress.newestClock);
    this.#training.takeUp();
  }

  #begin(clock: number): void {
    this.#training.begin(clock);
    if (this.stopping !== null) this.#stopCut.propose();
  }

  #workerDescribed(worker: Member, json: string): void {
    this.#descriptions.add(worker.rank, json);
    this.#gathering.check();
    if (!this.#training.isOn) return;
    this.#workforce.join(worker);
    this.#training.evaluations.joined(worker.rank);
  }

  #workerLeaves(worker: Member): void {
    this.#options.members.dismiss(worker, 'it was told to leave');
    this.#workerGone(worker.rank, 'leaves, as it was told to');
  }

  #workerGone(rank: number, how: string): void {
    const { isOn } = this.#training;
    this.#descriptions.drop(rank);
    this.#workforce.leave(rank, isOn ? how : null);
    if (isOn) this.#training.evaluations.lost(rank);
  }

  #maybeOver(): void {
    if (!this.#training.isOn) return;
    const { config, progress, generation } = this.#options;
    const ending = endingOf({
      steps: config.training.steps,
      step: progress.step,
      generation,
      manifest: this.lastManifest,
      isEvaluated: this.#training.evaluations.isComplete,
      stopAt: this.stopping === null ? null : this.#stopCut.clock,
      isIntervention: this.lastManifest !== null && dueInterventions(config, this.lastManifest).length > 0,
      isIdle: this.#training.evaluations.isIdle,
    });
    if (ending) this.#end.set(ending);
  }

  #recordMember({ role, rank, pid }: Member, change: 'joined' | 'left' | 'lost'): void {
    this.#options.history.record({ kind: 'member', generation: this.#options.generation, role, rank, pid, change });
  }
}
