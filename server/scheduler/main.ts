import { readFile } from 'node:fs/promises';
import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';
import type { Directive } from '../../protos/generated/whittle/Directive.ts';
import type { Report__Output } from '../../protos/generated/whittle/Report.ts';
import type { RoleExitedRequest__Output } from '../../protos/generated/whittle/RoleExitedRequest.ts';
import type { StatusReply } from '../../protos/generated/whittle/StatusReply.ts';
import type { StatusRequest__Output } from '../../protos/generated/whittle/StatusRequest.ts';
import type { StopRequest__Output } from '../../protos/generated/whittle/StopRequest.ts';
import { digestCheckpoint, survivorsByParameter } from '../../shared/checkpoint/digests.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { parseRunConfig } from '../../shared/config/effective.ts';
import type { Coordinator } from '../../shared/coordination/coordinator.ts';
import { openCoordinator } from '../../shared/coordination/open.ts';
import { WhittleError } from '../../shared/errors.ts';
import { Scheduler } from '../../shared/rpc/proto.ts';
import { toStatus } from '../../shared/rpc/rpc-errors.ts';
import { type RunningServer, service, startServer, unaryHandler } from '../../shared/rpc/server.ts';
import { openHistory } from '../../shared/telemetry/history.ts';
import { createLogger } from '../../shared/telemetry/log.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { RunFailure, RunState } from '../../shared/telemetry/run-status.ts';
import { RunProgress } from './progress/run-progress.ts';
import type { RunEnding } from './run/run-options.ts';
import { type Beginning, Timeline } from './timeline.ts';

export interface SchedulerOptions {
  readonly runDirectory: string;
  readonly host: string;
  readonly port: number;
  /** 0, or that of a standby. */
  readonly rank: number;
  readonly beginning: Beginning;
  readonly signal: AbortSignal;
}

type SessionStream = ServerDuplexStream<Report__Output, Directive>;
type WatchStream = ServerWritableStream<StatusRequest__Output, StatusReply>;
type Outcome = Exclude<RunEnding, { state: 'ABANDONED' }>;

const STATUS_MS = 500;
const GRACE_MS = 2_000;

/** Runs the scheduler of one run until it is over. Resolves to the exit code: 0, or 1 for a failed run. */
export async function runScheduler(options: SchedulerOptions): Promise<number> {
  const directory = new RunDirectory(options.runDirectory);
  const log = createLogger({
    role: 'scheduler',
    rank: options.rank,
    runId: directory.runId,
    file: directory.logFile('scheduler', options.rank),
  });
  const watchers = new Set<WatchStream>();
  let live: { timeline: Timeline; status: () => string } | null = null;
  const current = (): { timeline: Timeline; status: () => string } => {
    if (!live) throw new WhittleError('ROLE_LOST', 'the scheduler is starting; ask again', { retryable: true });
    return live;
  };
  let server: RunningServer | null = null;
  let coordinator: Coordinator | null = null;
  try {
    const config = parseRunConfig(await readFile(directory.runFile, 'utf8'), directory.runFile);
    server = await startServer({
      host: options.host,
      port: options.port,
      services: [
        service(Scheduler.service, {
          Session: (stream: SessionStream) => {
            if (live) live.timeline.members.accept(stream);
            else stream.emit('error', toStatus(new WhittleError('ROLE_LOST', 'the scheduler is starting; ask again')));
          },
          Status: unaryHandler(() => ({ json: current().status() })),
          Watch: (stream: WatchStream) => {
            watchers.add(stream);
            if (live) stream.write({ json: live.status() });
            stream.on('cancelled', () => watchers.delete(stream));
          },
          Stop: unaryHandler((request: StopRequest__Output) => {
            current().timeline.stop(request.reason || 'asked to stop');
            return {};
          }),
          RoleExited: unaryHandler(({ role, rank, message, replaced }: RoleExitedRequest__Output) => {
            log.warn({ replaced }, message);
            if (role !== 'server' && role !== 'worker') return { goesOn: true };
            return { goesOn: current().timeline.roleExited(role, rank, message, replaced) };
          }),
        }),
      ],
    });
    server.logRefusals((fields, message) => log.warn(fields, message));
    coordinator = await openCoordinator(config.coordination, options.runDirectory, {
      onWaiting: (message) => log.warn(message),
    });
    const office = await coordinator.campaign({
      address: server.address,
      signal: options.signal,
      standby: options.beginning.kind === 'recover',
      onWaiting: (message) => log.info(message),
    });
    if (options.beginning.kind === 'recover' && (await directory.readResult()) !== null) {
      log.info('the run is over: there is nothing to take over');
      return 0;
    }
    const store = new CheckpointStore(options.runDirectory);
    let changed = true;
    const progress = new RunProgress({
      runId: directory.runId,
      runDirectory: options.runDirectory,
      config,
      address: server.address,
      onMetrics: (records) => directory.metrics.append(records),
      onChange: () => (changed = true),
    });
    const { rank, runDirectory } = options;
    const history = openHistory({ runDirectory, role: 'scheduler', rank, enabled: config.history === true });
    const timeline = new Timeline({ directory, config, coordinator, store, progress, log, history });
    const resumedFrom = await timeline.begin(options.beginning);
    const generation = timeline.generation;
    let state: RunState = 'PENDING';
    let failure: RunFailure | null = null;
    const status = () =>
      progress.status(state, timeline.members.all(), failure, (worker) => timeline.stepTimesOf(worker));
    live = { timeline, status: () => JSON.stringify(status()) };
    const publish = async (): Promise<void> => {
      const now = status();
      // One that does not read misses some.
      for (const watcher of watchers) if (!watcher.writableNeedDrain) watcher.write({ json: JSON.stringify(now) });
      await directory.writeStatus(now);
    };
    // What is written down, servers need not keep for a scheduler that takes over.
    const record = async (): Promise<void> => {
      const recorded = { generation: timeline.generation, step: progress.step };
      await directory.metrics.flush();
      timeline.members.broadcast('server', { recorded });
    };
    const ticker = setInterval(() => {
      if (state === 'PENDING' && progress.isTraining) state = 'RUNNING';
      if (!changed) return;
      changed = false;
      record().catch((reason: unknown) => log.warn({ error: reason }, 'step records not written'));
      publish().catch((reason: unknown) => log.warn({ error: reason }, 'status not written'));
    }, STATUS_MS);
    const heartbeat = setInterval(() => (changed = true), 2 * STATUS_MS);
    const interrupt = (): void => timeline.stop('interrupted');
    options.signal.addEventListener('abort', interrupt, { once: true });
    office.lost.addEventListener('abort', () => timeline.abandon(), { once: true });
    server.setServing(true);
    process.stdout.write(`${JSON.stringify({ event: 'listening', address: server.address, generation })}\n`);
    log.info({ address: server.address, generation, resumedFrom }, 'listening');
    await publish();

    const outcome = await timeline.conduct();
    clearInterval(ticker);
    clearInterval(heartbeat);
    options.signal.removeEventListener('abort', interrupt);
    if (outcome.state === 'ABANDONED') {
      for (const watcher of watchers) watcher.end();
      throw new WhittleError('RUN_LOCKED', 'another scheduler took over the run; this one leaves it alone');
    }
    state = outcome.state;
    history.record({ kind: 'ended', generation: timeline.generation, state, clock: progress.step });
    history.close();
    failure = outcome.state === 'FAILED' ? outcome.failure : null;
    progress.say(describeOutcome(outcome));
    const written = await Promise.allSettled([writeResult(directory, store, progress, outcome, timeline.lastManifest)]);
    // Whoever watches hears of the end also where nothing can be written any more.
    written.push(...(await Promise.allSettled([publish()])));
    for (const watcher of watchers) watcher.end();
    log.info(describeOutcome(outcome));
    const unwritten = written.find((each) => each.status === 'rejected');
    if (unwritten !== undefined) throw WhittleError.from(unwritten.reason);
    return outcome.state === 'FAILED' ? 1 : 0;
  } catch (reason) {
    const error = WhittleError.from(reason);
    log.error({ error }, error.message);
    throw error;
  } finally {
    await server?.stop(GRACE_MS);
    // Before the office is given back: then the file belongs to the next scheduler.
    await directory.metrics.flush().catch((reason: unknown) => log.warn({ error: reason }, 'step records not written'));
    await coordinator?.close();
    await log.close();
  }
}

async function writeResult(
  directory: RunDirectory,
  store: CheckpointStore,
  progress: RunProgress,
  outcome: Outcome,
  manifest: Manifest | null,
): Promise<void> {
  // The last checkpoint is often durable before its evaluation is done.
  const accuracy = manifest ? progress.accuracyAt(manifest.clock) : null;
  if (manifest && accuracy !== null && manifest.testAccuracy !== accuracy) {
    await store.publish({ ...manifest, testAccuracy: accuracy });
  }
  const digests = manifest ? await digestCheckpoint(manifest, store) : null;
  const layers = manifest ? await survivorsByParameter(manifest, store) : [];
  const failure = outcome.state === 'FAILED' ? outcome.failure : null;
  await directory.writeResult(progress.result(outcome.state, layers, failure ? null : digests, failure));
}

function describeOutcome(outcome: Outcome): string {
  if (outcome.state === 'FAILED') return `failed: ${outcome.failure.message}`;
  if (outcome.state === 'STOPPED') {
    return outcome.manifest ? `stopped, checkpoint at step ${outcome.manifest.clock}` : 'stopped before the first step';
  }
  return 'finished';
}
