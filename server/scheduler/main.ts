import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';
import type { Directive } from '../../protos/generated/whittle/Directive.ts';
import type { Report__Output } from '../../protos/generated/whittle/Report.ts';
import type { StatusReply } from '../../protos/generated/whittle/StatusReply.ts';
import type { StatusRequest__Output } from '../../protos/generated/whittle/StatusRequest.ts';
import type { StopRequest__Output } from '../../protos/generated/whittle/StopRequest.ts';
import { digestCheckpoint, survivorsByParameter } from '../../shared/checkpoint/digests.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { parseRunConfig } from '../../shared/config/effective.ts';
import type { Coordinator } from '../../shared/coordination/coordinator.ts';
import { EmbeddedCoordinator } from '../../shared/coordination/embedded.ts';
import { acquireRunLock, type RunLock } from '../../shared/coordination/lock.ts';
import { WhittleError } from '../../shared/errors.ts';
import { Scheduler } from '../../shared/rpc/proto.ts';
import { type RunningServer, service, startServer, unaryHandler } from '../../shared/rpc/server.ts';
import { failpoint } from '../../shared/telemetry/failpoints.ts';
import { openHistory } from '../../shared/telemetry/history.ts';
import { createLogger, type Logger } from '../../shared/telemetry/log.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { RunFailure, RunState } from '../../shared/telemetry/run-status.ts';
import { whittleVersion } from '../../shared/version.ts';
import { Run, type RunOutcome } from './run.ts';
import { RunProgress } from './run-progress.ts';

export interface SchedulerOptions {
  readonly runDirectory: string;
  readonly host: string;
  readonly port: number;
  /** `folder`: the checkpoint to continue from, or null for the newest usable one. Null: a new run. */
  readonly resume: { readonly folder: string | null } | null;
  readonly signal: AbortSignal;
}

type SessionStream = ServerDuplexStream<Report__Output, Directive>;
type WatchStream = ServerWritableStream<StatusRequest__Output, StatusReply>;

const STATUS_MS = 500;
const GRACE_MS = 2_000;

/** Runs the scheduler of one run until it is over. Resolves to the exit code: 0, or 1 for a failed run. */
export async function runScheduler(options: SchedulerOptions): Promise<number> {
  const directory = new RunDirectory(options.runDirectory);
  const log = createLogger({
    role: 'scheduler',
    rank: 0,
    runId: directory.runId,
    file: directory.logFile('scheduler', 0),
  });
  const watchers = new Set<WatchStream>();
  let live: { run: Run; status: () => string } | null = null;
  const current = (): { run: Run; status: () => string } => {
    if (!live) throw new WhittleError('ROLE_LOST', 'the scheduler is starting; ask again', { retryable: true });
    return live;
  };
  let server: RunningServer | null = null;
  let lock: RunLock | null = null;
  let coordinator: EmbeddedCoordinator | null = null;
  try {
    const config = parseRunConfig(await readFile(directory.runFile, 'utf8'), directory.runFile);
    server = await startServer({
      host: options.host,
      port: options.port,
      services: [
        service(Scheduler.service, {
          Session: (stream: SessionStream) => current().run.members.accept(stream),
          Status: unaryHandler(() => ({ json: current().status() })),
          Watch: (stream: WatchStream) => {
            watchers.add(stream);
            if (live) stream.write({ json: live.status() });
            stream.on('cancelled', () => watchers.delete(stream));
          },
          Stop: unaryHandler((request: StopRequest__Output) => {
            current().run.stop(request.reason || 'asked to stop');
            return {};
          }),
        }),
      ],
    });
    lock = await acquireRunLock(options.runDirectory, { address: server.address });
    coordinator = await EmbeddedCoordinator.open(options.runDirectory);
    const store = new CheckpointStore(options.runDirectory);
    const restored = options.resume ? await findCheckpoint(store, coordinator, options.resume.folder, log) : null;
    const generation = await coordinator.takeGeneration(
      restored ? { clock: restored.clock, checkpoint: store.folderName(restored.clock, restored.generation) } : null,
    );
    const history = openHistory({
      runDirectory: options.runDirectory,
      role: 'scheduler',
      rank: 0,
      enabled: config.history === true,
    });
    const from = restored
      ? { clock: restored.clock, checkpoint: store.folderName(restored.clock, restored.generation) }
      : null;
    history.record({ kind: 'generation', generation, adopted: false, from });
    if (restored) failpoint('rollback.generation-taken', restored.clock);
    await directory.metrics.truncate(restored?.clock ?? 0);
    let changed = true;
    const progress = new RunProgress({
      runId: directory.runId,
      runDirectory: options.runDirectory,
      generation,
      config,
      restored,
      address: server.address,
      onMetrics: (records) => directory.metrics.append(records),
      onChange: () => (changed = true),
    });
    const run = new Run({
      runId: directory.runId,
      whittleVersion,
      config,
      generation,
      restored,
      store,
      coordinator,
      log,
      progress,
      history,
      flushMetrics: () => directory.metrics.flush(),
    });
    let state: RunState = 'PENDING';
    let failure: RunFailure | null = null;
    const status = () => progress.status(state, run.members.all(), failure);
    live = { run, status: () => JSON.stringify(status()) };
    const publish = async (): Promise<void> => {
      const now = status();
      for (const watcher of watchers) watcher.write({ json: JSON.stringify(now) });
      await directory.writeStatus(now);
    };
    const ticker = setInterval(() => {
      if (state === 'PENDING' && progress.isTraining) state = 'RUNNING';
      if (!changed) return;
      changed = false;
      publish().catch((reason: unknown) => log.warn({ error: reason }, 'status not written'));
    }, STATUS_MS);
    const heartbeat = setInterval(() => (changed = true), 2 * STATUS_MS);
    const interrupt = (): void => run.stop('interrupted');
    options.signal.addEventListener('abort', interrupt, { once: true });
    lock.lost.addEventListener('abort', () => run.stop('another scheduler took over the run directory'), {
      once: true,
    });
    server.setServing(true);
    process.stdout.write(`${JSON.stringify({ event: 'listening', address: server.address, generation })}\n`);
    log.info({ address: server.address, generation, resumedFrom: restored?.clock ?? null }, 'listening');
    await publish();

    const outcome = await run.conduct();
    clearInterval(ticker);
    clearInterval(heartbeat);
    options.signal.removeEventListener('abort', interrupt);
    state = outcome.state;
    history.record({ kind: 'ended', generation, state, clock: progress.step });
    history.close();
    failure = outcome.state === 'FAILED' ? outcome.failure : null;
    progress.say(describeOutcome(outcome));
    const written = await Promise.allSettled([writeResult(directory, store, progress, outcome, run.lastManifest)]);
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
    await coordinator?.close();
    // Before the lock is given back: then the file belongs to the next scheduler.
    await directory.metrics.flush().catch((reason: unknown) => log.warn({ error: reason }, 'step records not written'));
    await lock?.release();
    await log.close();
  }
}

async function findCheckpoint(
  store: CheckpointStore,
  coordinator: Coordinator,
  folder: string | null,
  log: Logger,
): Promise<Manifest> {
  if (folder !== null) return store.verify(folder);
  const latest = await coordinator.latest();
  const found = await store.newestUsable(
    { pointer: latest?.folder ?? null, lineage: await coordinator.lineage() },
    (message) => log.warn(message),
  );
  if (!found) {
    throw new WhittleError(
      'CHECKPOINT',
      `${store.folder} holds no usable checkpoint; start over with \`whittle launch\``,
    );
  }
  log.info({ step: found.manifest.clock, checkpoint: basename(found.folder) }, 'resuming');
  return found.manifest;
}

async function writeResult(
  directory: RunDirectory,
  store: CheckpointStore,
  progress: RunProgress,
  outcome: RunOutcome,
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

function describeOutcome(outcome: RunOutcome): string {
  if (outcome.state === 'FAILED') return `failed: ${outcome.failure.message}`;
  if (outcome.state === 'STOPPED') {
    return outcome.manifest ? `stopped, checkpoint at step ${outcome.manifest.clock}` : 'stopped before the first step';
  }
  return 'finished';
}
