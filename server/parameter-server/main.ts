import { WhittleError } from '../../shared/errors.ts';
import { schedulerClient } from '../../shared/rpc/client.ts';
import { MemberSession } from '../../shared/rpc/member-session.ts';
import { ParameterServer } from '../../shared/rpc/proto.ts';
import { service, startServer } from '../../shared/rpc/server.ts';
import { startThread, ThreadCaller } from '../../shared/rpc/thread-calls.ts';
import { createLogger } from '../../shared/telemetry/log.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import { ParameterServerRole } from './parameter-server.ts';

export interface MemberOptions {
  readonly scheduler: string;
  /** Null: the scheduler gives one. */
  readonly rank: number | null;
  readonly host: string;
  readonly port: number;
  readonly runDirectory: string;
  readonly signal: AbortSignal;
}

const GRACE_MS = 2_000;

/** Runs one parameter server until the run is over. Resolves to the exit code: 0 when told to leave, else 1. */
export async function runServer(options: MemberOptions): Promise<number> {
  const directory = new RunDirectory(options.runDirectory);
  const failed = new AbortController();
  let failure: WhittleError | null = null;
  const fail = (error: WhittleError): void => {
    failure ??= error;
    failed.abort();
  };
  let session: MemberSession | null = null;
  const live = (): MemberSession => {
    if (!session) throw new WhittleError('INTERNAL', 'no session with the scheduler yet');
    return session;
  };
  const thread = new ThreadCaller(startThread(import.meta.url, 'shard-thread', null), fail);
  const role = new ParameterServerRole({
    thread,
    runDirectory: options.runDirectory,
    session: live,
    socketBytes: () => server.socketBytes(),
    onFailure: fail,
  });
  const server = await startServer({
    host: options.host,
    port: options.port,
    services: [service(ParameterServer.service, role.handlers)],
  });
  const client = schedulerClient(options.scheduler);
  let finished = false;
  session = new MemberSession({
    client,
    schedulerAddress: options.scheduler,
    role: 'server',
    rank: options.rank,
    address: server.address,
    runId: directory.runId,
    clock: () => role.clock,
    onDirective: (directive) => {
      if (directive.finish) finished = true;
      role.directive(directive);
    },
  });
  const aborted = new Promise<void>((resolve) => {
    options.signal.addEventListener('abort', () => resolve(), { once: true });
    failed.signal.addEventListener('abort', () => resolve(), { once: true });
    if (options.signal.aborted) resolve();
  });
  try {
    const welcome = await session.welcome;
    role.admitted(welcome.generation);
    const log = createLogger({
      role: 'server',
      rank: welcome.rank,
      runId: directory.runId,
      file: directory.logFile('server', welcome.rank),
    });
    server.logRefusals((fields, message) => log.warn(fields, message));
    log.info({ address: server.address, generation: welcome.generation }, 'admitted');
    server.setServing(true);
    const ended = await Promise.race([session.closed, aborted]);
    if (failure !== null) {
      const error: WhittleError = failure;
      log.error({ error }, error.message);
      session.fail(error, role.clock);
      return 1;
    }
    if (finished) {
      log.info({ step: role.clock }, 'told to leave');
      return 0;
    }
    log.error(ended ? ended.message : 'interrupted');
    return 1;
  } finally {
    session.leave('done');
    await role.close();
    await server.stop(GRACE_MS);
    await thread.terminate();
    client.close();
  }
}
