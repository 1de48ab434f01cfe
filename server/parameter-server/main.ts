import type { RunConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import { schedulerLocator } from '../../shared/coordination/locate.ts';
import { schedulerClient, unary } from '../../shared/rpc/client.ts';
import { MemberSession } from '../../shared/rpc/member-session.ts';
import { ParameterServer } from '../../shared/rpc/proto.ts';
import { service, startServer } from '../../shared/rpc/server.ts';
import { startThread, ThreadCaller } from '../../shared/rpc/thread-calls.ts';
import { createLogger } from '../../shared/telemetry/log.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import { ParameterServerRole } from './parameter-server.ts';

export interface MemberOptions {
  /** Where the scheduler was when this member was started, `host:port`; null: the run directory says. */
  readonly scheduler: string | null;
  /** Null: the scheduler gives one. */
  readonly rank: number | null;
  readonly host: string;
  readonly port: number;
  readonly runDirectory: string;
  readonly signal: AbortSignal;
}

const GRACE_MS = 2_000;
const STOP_DEADLINE_MS = 10_000;
/** How long a server that was never admitted looks for a scheduler. */
const FIRST_ADMISSION_MS = 60_000;
/** The exit code of a death: the scheduler has not heard why, and a supervisor may start the role again. */
const DIED = 70;

/**
 * Runs one parameter server until the run is over. Resolves to the exit code: 0 when told to leave, 1 after a failure
 * that the scheduler knows of, 70 after any other end.
 */
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
  const locate = schedulerLocator(options.runDirectory, options.scheduler);
  let finished = false;
  let orphanAfter = FIRST_ADMISSION_MS;
  let note: (message: string) => void = () => undefined;
  session = new MemberSession({
    locate,
    role: 'server',
    rank: options.rank,
    address: server.address,
    runId: directory.runId,
    state: () => ({ generation: role.generation, clock: role.clock, heldShard: role.heldShard() }),
    orphanAfterMilliseconds: () => orphanAfter,
    onNote: (message) => note(message),
    onWelcome: ({ generation, runFile }) => {
      orphanAfter = 1000 * (JSON.parse(runFile) as RunConfig).cluster.orphanAfterSeconds;
      role.admitted(generation);
    },
    clock: () => role.clock,
    onDirective: (directive) => {
      if (directive.finish) finished = true;
      role.directive(directive);
    },
  });
  const broken = new Promise<void>((resolve) =>
    failed.signal.addEventListener('abort', () => resolve(), { once: true }),
  );
  const told = new Promise<void>((resolve) => {
    options.signal.addEventListener('abort', () => resolve(), { once: true });
    if (options.signal.aborted) resolve();
  });
  try {
    const welcome = await session.welcome;
    const log = createLogger({
      role: 'server',
      rank: welcome.rank,
      runId: directory.runId,
      file: directory.logFile('server', welcome.rank),
    });
    log.info({ address: server.address, generation: welcome.generation }, 'admitted');
    note = (message) => log.warn({ step: role.clock }, message);
    server.setServing(true);
    let ended = await Promise.race([session.closed, broken, told]);
    if (options.signal.aborted && failure === null && !finished && session.connected) {
      // Its shard would be lost with it: the run checkpoints and stops first.
      log.info({ step: role.clock }, 'told to leave: the run stops');
      if (await askToStop(await locate(), `server[${welcome.rank}] was told to leave`))
        ended = await Promise.race([session.closed, broken]);
    }
    if (failure !== null) {
      const error: WhittleError = failure;
      log.error({ error }, error.message);
      return session.fail(error, role.clock) ? 1 : DIED;
    }
    if (finished) {
      log.info({ step: role.clock }, 'told to leave');
      return 0;
    }
    log.error(ended ? ended.message : 'interrupted');
    return DIED;
  } finally {
    session.leave('done');
    await role.close();
    await server.stop(GRACE_MS);
    await thread.terminate();
  }
}

/** False where no scheduler hears it: then there is nothing to wait for. */
async function askToStop(address: string | null, reason: string): Promise<boolean> {
  if (address === null) return false;
  const client = schedulerClient(address);
  try {
    await unary(client, 'stop', { reason }, { deadlineMilliseconds: STOP_DEADLINE_MS });
    return true;
  } catch {
    return false;
  } finally {
    client.close();
  }
}
