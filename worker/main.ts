import { hostname } from 'node:os';
import type { Begin__Output } from '../protos/generated/whittle/Begin.ts';
import type { Describe__Output } from '../protos/generated/whittle/Describe.ts';
import type { Directive__Output } from '../protos/generated/whittle/Directive.ts';
import type { SendInitial__Output } from '../protos/generated/whittle/SendInitial.ts';
import type { Welcome__Output } from '../protos/generated/whittle/Welcome.ts';
import type { RunConfig } from '../shared/config/types.ts';
import { openSchedulerFinder, type SchedulerFinder } from '../shared/coordination/scheduler-finder.ts';
import { WhittleError } from '../shared/errors.ts';
import type { ModelDescription } from '../shared/layout/model-description.ts';
import { ParameterSpace } from '../shared/layout/parameter-space.ts';
import { pause } from '../shared/rpc/deadline.ts';
import { listenSettings } from '../shared/rpc/credentials.ts';
import { startServer } from '../shared/rpc/server.ts';
import { MemberSession } from '../shared/rpc/member-session.ts';
import { createLogger, type Logger } from '../shared/telemetry/log.ts';
import { RunDirectory } from '../shared/telemetry/run-directory.ts';
import { SliceAssignment } from './assignment.ts';
import { Evaluator } from './evaluator.ts';
import { Pulse } from './pulse.ts';
import { ServerLinks } from './server-links.ts';
import { ComputeClient } from './training/compute-client.ts';
import { train } from './training-loop.ts';

export interface WorkerOptions {
  /** Where the scheduler was when this member was started, `host:port`; null: the run directory says. */
  readonly scheduler: string | null;
  /** Null: the scheduler gives one. */
  readonly rank: number | null;
  readonly host: string;
  readonly port: number;
  readonly runDirectory: string;
  readonly signal: AbortSignal;
}

/** How long a worker that was never admitted looks for a scheduler. */
const FIRST_ADMISSION_MS = 60_000;
/** Between attempts to reach the servers again. */
const RELINK_MS = 200;
/** From the wish to leave until the worker leaves without an answer. */
const LEAVE_MS = 5_000;
const HEALTH_GRACE_MS = 500;
/** The exit code of a death: the scheduler has not heard why, and a supervisor may start the role again. */
const DIED = 70;

/**
 * Runs one worker until the run is over. Resolves to the exit code: 0 when told to leave, 1 after a failure that the
 * scheduler knows of, 70 after any other end.
 */
export async function runWorker(options: WorkerOptions): Promise<number> {
  // Nobody calls a worker, but a cluster may want to know that it lives.
  const { host, port } = options;
  const probed = listenSettings().healthPort !== undefined;
  const health = probed ? await startServer({ host, port, services: [], serving: true }) : null;
  const worker = new WorkerRole(options, await openSchedulerFinder(options.runDirectory, options.scheduler));
  try {
    return await worker.run();
  } finally {
    await worker.close();
    await health?.stop(HEALTH_GRACE_MS);
  }
}

/** The part of a worker's life in one generation. */
interface Timeline {
  readonly generation: number;
  readonly abort: AbortController;
}

/** One worker: what the scheduler directs, done in the order it comes. It outlives generations and schedulers. */
class WorkerRole {
  readonly #options: WorkerOptions;
  readonly #directory: RunDirectory;
  readonly #finder: SchedulerFinder;
  readonly #session: MemberSession;
  readonly #news = new Pulse();
  readonly #assignment = new SliceAssignment(this.#news);
  #log: Logger | null = null;
  #rank = 0;
  #config: RunConfig | null = null;
  #orphanAfter = FIRST_ADMISSION_MS;
  /** The newest order to build, done after those before it. */
  #building: Promise<unknown> = Promise.resolve();
  #compute: ComputeClient | null = null;
  /** What it was built for. */
  #left = '';
  #evaluator: Evaluator | null = null;
  #timeline: Timeline | null = null;
  /** The training of the generation before ends before that of the next begins: they share the compute thread. */
  #training: Promise<void> = Promise.resolve();
  #clock = 0;
  #finished = false;
  #failure: WhittleError | null = null;
  #wakeFailed: () => void = () => undefined;
  readonly #failed: Promise<void>;

  constructor(options: WorkerOptions, finder: SchedulerFinder) {
    this.#options = options;
    this.#finder = finder;
    this.#directory = new RunDirectory(options.runDirectory);
    this.#failed = new Promise((resolve) => (this.#wakeFailed = resolve));
    this.#session = new MemberSession({
      locate: () => finder.locate(),
      role: 'worker',
      rank: options.rank,
      address: '',
      runId: this.#directory.runId,
      state: () => ({ generation: this.#timeline?.generation ?? 0, clock: this.#clock, heldShard: '' }),
      clock: () => this.#clock,
      orphanAfterMilliseconds: () => this.#orphanAfter,
      onNote: (message) => this.#log?.warn({ step: this.#clock }, message),
      onWelcome: (welcome) => this.#welcomed(welcome),
      onDirective: (directive) => {
        this.#obey(directive).catch((reason: unknown) => this.#fail(reason));
      },
    });
  }

  async run(): Promise<number> {
    this.#finder.onSucceeded(() => this.#session.relocate());
    const welcome = await this.#session.welcome;
    const log = createLogger({
      role: 'worker',
      rank: this.#rank,
      runId: this.#directory.runId,
      file: this.#directory.logFile('worker', this.#rank),
    });
    this.#log = log;
    log.info({ generation: welcome.generation }, 'admitted');
    try {
      const interrupted = new Promise<void>((resolve) => {
        this.#options.signal.addEventListener('abort', () => resolve(), { once: true });
        if (this.#options.signal.aborted) resolve();
      });
      let ended = await Promise.race([this.#session.closed, this.#failed, interrupted]);
      if (this.#options.signal.aborted && !this.#finished && this.#failure === null) {
        log.info({ step: this.#clock }, 'asked to leave: handing over');
        await this.#handOver();
        ended = await this.#session.closed;
      }
      if (this.#finished) {
        log.info({ step: this.#clock }, 'told to leave');
        return 0;
      }
      const failure: WhittleError | null = this.#failure;
      if (failure) {
        log.error({ error: failure, step: this.#clock }, failure.message);
        return this.#session.fail(failure, this.#clock) ? 1 : DIED;
      }
      log.error(ended ? ended.message : 'interrupted');
      return DIED;
    } finally {
      await log.close();
    }
  }

  async close(): Promise<void> {
    this.#timeline?.abort.abort();
    this.#news.beat();
    this.#session.leave('done');
    await this.#training;
    await this.#compute?.terminate();
    await this.#finder.close();
  }

  #welcomed(welcome: Welcome__Output): void {
    this.#rank = welcome.rank;
    this.#config ??= JSON.parse(welcome.runFile) as RunConfig;
    this.#orphanAfter = 1000 * this.#config.cluster.orphanAfterSeconds;
    this.#assignment.forgetVersion();
    const { rank } = welcome;
    void this.#finder.announce({ role: 'worker', rank, address: '', host: hostname(), pid: process.pid });
  }

  async #obey(directive: Directive__Output): Promise<void> {
    if (directive.finish) {
      this.#finished = true;
      this.#timeline?.abort.abort();
      this.#news.beat();
    } else if (directive.describe) await this.#describe(directive.describe);
    else if (directive.sendInitial) await this.#sendInitial(directive.sendInitial);
    else if (directive.begin) this.#begin(directive.begin);
    else if (directive.assignment) this.#assignment.set(directive.assignment);
    else if (directive.evaluate) {
      this.#evaluator?.evaluate(directive.evaluate.clock, directive.evaluate.chunks);
      this.#news.beat();
    } else if (directive.evaluationOver) this.#evaluator?.over(directive.evaluationOver.clock);
  }

  /** Builds the model where it has not, and says what it is every time it is asked. */
  async #describe({ left }: Describe__Output): Promise<void> {
    const building = this.#building.then(() => this.#build(left));
    this.#building = building.catch(() => undefined);
    const { description, fingerprint, numEvaluationChunks } = await building;
    this.#session.report({
      modelDescription: JSON.stringify({ description, fingerprint, evaluationChunks: numEvaluationChunks }),
    });
  }

  /** The model of `left`, see Describe; that of the generation before where it is the same. */
  async #build(left: string): Promise<ComputeClient> {
    const config = this.#config;
    if (!config) throw new WhittleError('PROTOCOL', 'asked for a description before being admitted');
    if (this.#compute !== null && this.#left === left) return this.#compute;
    // Units left the model, or are in it again: what trained it before trains no more.
    this.#timeline?.abort.abort();
    this.#news.beat();
    await this.#training;
    const before = this.#compute;
    this.#compute = null;
    this.#evaluator = null;
    await before?.terminate();
    const compute = await ComputeClient.create({
      config,
      ...(left === '' ? {} : { left: JSON.parse(left) as ModelDescription }),
      onDeath: (error) => this.#fail(error),
    });
    this.#compute = compute;
    this.#left = left;
    this.#evaluator = new Evaluator(
      compute,
      (done) => {
        const generation = this.#timeline?.generation ?? 0;
        this.#session.report({ evaluation: { generation, ...done } });
      },
      (reason) => {
        if (this.#compute === compute) this.#fail(reason);
      },
    );
    return compute;
  }

  async #sendInitial({ generation, cuts, servers }: SendInitial__Output): Promise<void> {
    const compute = this.#built();
    await compute.loadInitial();
    const links = this.#connect(generation, cuts, servers);
    try {
      await links.sendInitial(await compute.initialWeights(), await compute.initialState());
      this.#session.report({ initialSent: { generation } });
    } catch (reason) {
      // A server was lost: the scheduler begins anew.
      if (!mayHold(reason)) throw reason;
      this.#log?.warn(WhittleError.from(reason).rawMessage);
    } finally {
      await links.close();
    }
  }

  /** Begins a generation, or goes on in it where this worker never stopped. */
  #begin(begin: Begin__Output): void {
    this.#built();
    if (begin.assignment) this.#assignment.set(begin.assignment);
    if (this.#timeline?.generation === begin.generation && !this.#timeline.abort.signal.aborted) return;
    this.#timeline?.abort.abort();
    this.#news.beat();
    const timeline: Timeline = { generation: begin.generation, abort: new AbortController() };
    this.#timeline = timeline;
    this.#evaluator?.forget();
    this.#training = this.#training
      .then(() => this.#train(begin, timeline.abort.signal))
      .catch((reason: unknown) => {
        if (!timeline.abort.signal.aborted) this.#fail(reason);
      });
  }

  /** Trains, over new links whenever a server was out of reach: the scheduler says when that is for good. */
  async #train(begin: Begin__Output, signal: AbortSignal): Promise<void> {
    const config = this.#config;
    if (!config) throw new WhittleError('PROTOCOL', 'told to begin before being admitted');
    while (!signal.aborted) {
      const links = this.#connect(begin.generation, begin.cuts, begin.servers);
      try {
        return await train({
          config,
          compute: this.#built(),
          links,
          assignment: this.#assignment,
          news: this.#news,
          onClock: (clock) => (this.#clock = clock),
          onEvaluable: (clock) => this.#evaluator?.kept(clock),
          wantedEvaluations: () => this.#evaluator?.wanted ?? [],
          onUnavailable: (clock) => this.#evaluator?.unavailable(clock),
          signal,
        });
      } catch (reason) {
        if (signal.aborted || !mayHold(reason)) throw reason;
        this.#log?.warn(
          { step: this.#clock },
          `${WhittleError.from(reason).rawMessage}; looking for the servers again`,
        );
      } finally {
        await links.close();
      }
      await pause(RELINK_MS, 'the servers to be reachable', signal);
    }
  }

  /** The slice under way is the last; what it has not computed goes to the others. */
  async #handOver(): Promise<void> {
    this.#assignment.leave();
    const late = new Promise<void>((resolve) => setTimeout(resolve, LEAVE_MS).unref());
    await Promise.race([this.#training, late]);
    if (!this.#session.report({ leaving: {} })) return this.#session.leave('left');
    await Promise.race([this.#session.closed, late]);
    this.#session.leave('left');
  }

  #connect(generation: number, cuts: readonly number[], servers: readonly string[]): ServerLinks {
    if (!this.#config) throw new WhittleError('PROTOCOL', 'asked to connect before being admitted');
    return new ServerLinks({
      config: this.#config,
      generation,
      rank: this.#rank,
      space: ParameterSpace.of(this.#built().description.parameters),
      cuts,
      servers,
      news: this.#news,
    });
  }

  #built(): ComputeClient {
    if (!this.#compute) throw new WhittleError('PROTOCOL', 'the model is not built yet');
    return this.#compute;
  }

  /** The first failure counts; what breaks after the end of the run is no failure. */
  #fail(reason: unknown): void {
    if (this.#finished) return;
    this.#failure ??= WhittleError.from(reason);
    this.#timeline?.abort.abort();
    this.#news.beat();
    this.#wakeFailed();
  }
}

/** Whether new links to the servers may succeed where these did not. */
function mayHold(reason: unknown): boolean {
  return reason instanceof WhittleError && (reason.code === 'STALE_GENERATION' || reason.code === 'ROLE_LOST');
}
