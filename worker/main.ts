import type { Begin__Output } from '../protos/generated/whittle/Begin.ts';
import type { Directive__Output } from '../protos/generated/whittle/Directive.ts';
import type { RunConfig } from '../shared/config/types.ts';
import { WhittleError } from '../shared/errors.ts';
import { schedulerClient } from '../shared/rpc/client.ts';
import { MemberSession } from '../shared/rpc/member-session.ts';
import { createLogger } from '../shared/telemetry/log.ts';
import { RunDirectory } from '../shared/telemetry/run-directory.ts';
import { Evaluator } from './evaluator.ts';
import { ServerLinks } from './server-links.ts';
import { ComputeClient } from './training/compute-client.ts';
import { train } from './training-loop.ts';

export interface WorkerOptions {
  readonly scheduler: string;
  /** Null: the scheduler gives one. */
  readonly rank: number | null;
  readonly host: string;
  readonly port: number;
  readonly runDirectory: string;
  readonly signal: AbortSignal;
}

/** Runs one worker until the run is over. Resolves to the exit code: 0 when told to leave, else 1. */
export async function runWorker(options: WorkerOptions): Promise<number> {
  const worker = new WorkerRole(options);
  try {
    return await worker.run();
  } finally {
    await worker.close();
  }
}

/** One worker: what the scheduler directs, done in the order it comes. */
class WorkerRole {
  readonly #options: WorkerOptions;
  readonly #directory: RunDirectory;
  readonly #client: ReturnType<typeof schedulerClient>;
  readonly #session: MemberSession;
  readonly #abort = new AbortController();
  #generation = 0;
  #rank = 0;
  #config: RunConfig | null = null;
  #compute: ComputeClient | null = null;
  #links: ServerLinks | null = null;
  #evaluator: Evaluator | null = null;
  #clock = 0;
  #slices: readonly number[] = [];
  #finished = false;
  #failure: WhittleError | null = null;
  #wakeFailed: () => void = () => undefined;
  readonly #failed: Promise<void>;

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#directory = new RunDirectory(options.runDirectory);
    this.#client = schedulerClient(options.scheduler);
    this.#failed = new Promise((resolve) => (this.#wakeFailed = resolve));
    this.#session = new MemberSession({
      client: this.#client,
      schedulerAddress: options.scheduler,
      role: 'worker',
      rank: options.rank,
      address: '',
      runId: this.#directory.runId,
      clock: () => this.#clock,
      onDirective: (directive) => {
        this.#obey(directive).catch((reason: unknown) => this.#fail(reason));
      },
    });
  }

  async run(): Promise<number> {
    const welcome = await this.#session.welcome;
    this.#generation = welcome.generation;
    this.#rank = welcome.rank;
    this.#config = JSON.parse(welcome.runFile) as RunConfig;
    const log = createLogger({
      role: 'worker',
      rank: this.#rank,
      runId: this.#directory.runId,
      file: this.#directory.logFile('worker', this.#rank),
    });
    log.info({ generation: this.#generation }, 'admitted');
    try {
      const interrupted = new Promise<void>((resolve) => {
        this.#options.signal.addEventListener('abort', () => resolve(), { once: true });
        if (this.#options.signal.aborted) resolve();
      });
      const ended = await Promise.race([this.#session.closed, this.#failed, interrupted]);
      if (this.#finished) {
        log.info({ step: this.#clock }, 'told to leave');
        return 0;
      }
      const failure: WhittleError | null = this.#failure;
      if (failure) {
        log.error({ error: failure, step: this.#clock }, failure.message);
        this.#session.fail(failure, this.#clock);
      } else log.error(ended ? ended.message : 'interrupted');
      return 1;
    } finally {
      await log.close();
    }
  }

  async close(): Promise<void> {
    this.#abort.abort();
    this.#session.leave('done');
    await this.#links?.close();
    await this.#compute?.terminate();
    this.#client.close();
  }

  async #obey(directive: Directive__Output): Promise<void> {
    if (directive.finish) {
      this.#finished = true;
      this.#abort.abort();
    } else if (directive.describe) await this.#describe();
    else if (directive.sendInitial) {
      const { cuts, servers } = directive.sendInitial;
      const links = this.#connect(cuts, servers);
      const compute = this.#built();
      await links.sendInitial(await compute.initialWeights(), await compute.initialState());
      this.#session.report({ initialSent: { generation: this.#generation } });
    } else if (directive.begin) await this.#begin(directive.begin);
    else if (directive.assignment) this.#slices = directive.assignment.slices;
    else if (directive.evaluate) this.#evaluator?.evaluate(directive.evaluate.clock, directive.evaluate.chunks);
    else if (directive.evaluationOver) this.#evaluator?.over(directive.evaluationOver.clock);
  }

  async #describe(): Promise<void> {
    // The run file came with the welcome, which is handled before any directive.
    await this.#session.welcome;
    if (!this.#config) throw new WhittleError('PROTOCOL', 'asked for a description before being admitted');
    this.#compute = await ComputeClient.create({ config: this.#config, onDeath: (error) => this.#fail(error) });
    const { description, fingerprint, numEvaluationChunks } = this.#compute;
    this.#evaluator = new Evaluator(
      this.#compute,
      (done) => this.#session.report({ evaluation: { generation: this.#generation, ...done } }),
      (reason) => this.#fail(reason),
    );
    this.#session.report({
      modelDescription: JSON.stringify({ description, fingerprint, evaluationChunks: numEvaluationChunks }),
    });
  }

  async #begin(begin: Begin__Output): Promise<void> {
    const links = this.#links ?? this.#connect(begin.cuts, begin.servers);
    this.#slices = begin.assignment?.slices ?? [];
    await train({
      config: this.#config as RunConfig,
      compute: this.#built(),
      links,
      clock: begin.clock,
      slices: () => this.#slices,
      onClock: (clock) => (this.#clock = clock),
      onEvaluable: (clock) => this.#evaluator?.kept(clock),
      signal: this.#abort.signal,
    });
  }

  #connect(cuts: readonly number[], servers: readonly string[]): ServerLinks {
    if (!this.#config) throw new WhittleError('PROTOCOL', 'asked to connect before being admitted');
    this.#links = new ServerLinks({
      config: this.#config,
      generation: this.#generation,
      rank: this.#rank,
      cuts,
      servers,
      onFailure: (error) => this.#fail(error),
    });
    return this.#links;
  }

  #built(): ComputeClient {
    if (!this.#compute) throw new WhittleError('PROTOCOL', 'the model is not built yet');
    return this.#compute;
  }

  /** The first failure counts; what breaks after the end of the run is no failure. */
  #fail(reason: unknown): void {
    if (this.#finished || this.#abort.signal.aborted) return;
    this.#failure ??= WhittleError.from(reason);
    this.#abort.abort();
    this.#wakeFailed();
  }
}
