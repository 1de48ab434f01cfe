import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { ServerUnaryCall, ServiceDefinition, UntypedServiceImplementation, handleUnaryCall } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import { hostname } from 'node:os';
import { WhittleError } from '../errors.ts';
import { isLoopback } from '../security/loopback.ts';
import { Admission } from './admission.ts';
import { currentCredentials, listenSettings, serverCredentials } from './credentials.ts';
import type { ListenSettings, RunCredentials } from './credentials.ts';
import { SERVER_LIMITS, transportOptions } from './options.ts';
import { Refusals } from './refusals.ts';
import type { WriteRefusal } from './refusals.ts';
import { toStatus } from './rpc-errors.ts';
import { ServerConnections } from './windows.ts';
import type { SessionWindows, SocketBytes } from './windows.ts';

export interface Service {
  readonly definition: ServiceDefinition;
  readonly handlers: UntypedServiceImplementation;
}

/** Types a service: its handlers must be those that its definition asks for. */
export function service<H extends UntypedServiceImplementation>(
  definition: ServiceDefinition<H>,
  handlers: H,
): Service {
  return { definition, handlers };
}

export interface ServerOptions {
  /** Host to listen on: `127.0.0.1`, `0.0.0.0`, `::1`, a name. */
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
  readonly services: readonly Service[];
  /** What the health service answers from the start. Default: not serving, until `setServing(true)`. */
  readonly serving?: boolean;
  /** Default: those of the process, see `useCredentials`. */
  readonly credentials?: RunCredentials;
  readonly listening?: ListenSettings;
  /** For tests. */
  readonly limits?: Partial<{ readonly [key in keyof typeof SERVER_LIMITS]: number }>;
}

export interface RunningServer {
  /** `host:port` by which others reach it: as advertised, else as bound; with port 0 the port that was free. */
  readonly address: string;
  readonly port: number;
  socketBytes(): SocketBytes;
  windows(): SessionWindows[];
  setServing(serving: boolean): void;
  /** Where lines about refused callers go, those until now included. */
  logRefusals(write: WriteRefusal): void;
  /** Takes no new calls, lets running ones end for at most `graceMilliseconds`, then cuts them. Repeatable. */
  stop(graceMilliseconds: number): Promise<void>;
}

/**
 * Starts a gRPC server with health service, raised windows, and bounded messages, callers and connections; every
 * call must carry the run's token. Errors: PORT; SECURITY where it would listen off loopback without certificates.
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const credentials = options.credentials ?? currentCredentials();
  const listening = options.listening ?? listenSettings();
  const limits = { ...SERVER_LIMITS, ...options.limits };
  await requireSafe(options.host, credentials, listening);

  const refusals = new Refusals();
  const admission = new Admission({
    ...limits,
    token: credentials.token,
    refusals,
    onAdmitted: (peer) => connections.admit(peer),
    cut: (peer) => connections.cut(peer),
  });
  const server = new Server({
    ...transportOptions,
    'grpc.max_concurrent_streams': limits.streamsPerConnection,
    interceptors: [admission.interceptor],
  });
  const onRefused = (peer: string, reason: string): void => refusals.add(peer, reason);
  const connections = new ServerConnections(server, { ...limits, onRefused });
  const health = new HealthImplementation({ '': options.serving === true ? 'SERVING' : 'NOT_SERVING' });
  health.addToServer(server);
  for (const { definition, handlers } of options.services) server.addService(definition, handlers);

  let probes: Probes | null = null;
  let port: number;
  try {
    port = await bind(server, options.host, options.port, serverCredentials(credentials));
    connections.bound();
    if (listening.healthPort !== undefined) probes = await startProbes(options.host, listening.healthPort, health);
  } catch (error) {
    admission.close();
    server.forceShutdown();
    throw error;
  }
  let stopped: Promise<void> | undefined;
  return {
    address: hostPort(listening.advertise ?? reachable(options.host), port),
    port,
    socketBytes: () => connections.socketBytes(),
    windows: () => connections.windows(),
    setServing: (serving) => health.setStatus('', serving ? 'SERVING' : 'NOT_SERVING'),
    logRefusals: (write) => refusals.logTo(write),
    stop(graceMilliseconds) {
      health.setStatus('', 'NOT_SERVING');
      stopped ??= Promise.all([
        shutDown(server, connections, graceMilliseconds).then(() => admission.close()),
        probes === null ? undefined : shutDown(probes.server, probes.connections, graceMilliseconds),
      ]).then(() => undefined);
      return stopped;
    },
  };
}

/** Without certificates nobody off this machine may reach a role: token, weights and masks would travel in the clear. */
async function requireSafe(host: string, credentials: RunCredentials, listening: ListenSettings): Promise<void> {
  if (credentials.certificates !== null || (await isLoopback(host))) return;
  if (listening.insecure === true) {
    process.stderr.write(
      `warning: listening on ${host} without certificates, as --insecure says: whoever is on this network can read and change the run\n`,
    );
    return;
  }
  throw new WhittleError(
    'SECURITY',
    `will not listen on ${host} without certificates, where others on the network could read and change the run; make some with \`whittle certs --out DIR --hosts HOST,...\` and give --certs DIR, or insist with --insecure`,
    { data: { host } },
  );
}

interface Probes {
  readonly server: Server;
  readonly connections: ServerConnections;
}

/** Health checks in plain text on a port of their own, for probes that know no certificates (those of Kubernetes). */
async function startProbes(host: string, port: number, health: HealthImplementation): Promise<Probes> {
  const server = new Server({ ...transportOptions, 'grpc.max_receive_message_length': 1024 });
  const connections = new ServerConnections(server, {
    connections: 64,
    strangers: 64,
    strangerMilliseconds: SERVER_LIMITS.strangerMilliseconds,
    onRefused: () => undefined,
  });
  health.addToServer(server);
  await bind(server, host, port, ServerCredentials.createInsecure());
  connections.bound();
  return { server, connections };
}

/** What to tell others where a server listens on all addresses of its machine. */
function reachable(host: string): string {
  return host === '0.0.0.0' || host === '::' || host === '[::]' ? hostname() : host;
}

function bind(server: Server, host: string, port: number, credentials: ServerCredentials): Promise<number> {
  return new Promise<number>((resolve, reject) => {
    server.bindAsync(hostPort(host, port), credentials, (error, bound) => {
      if (error === null) {
        resolve(bound);
        return;
      }
      server.forceShutdown();
      reject(portError(host, port, error));
    });
  });
}

function portError(host: string, port: number, cause: Error): WhittleError {
  const address = hostPort(host, port);
  const [reason, cure] = cause.message.includes('EADDRINUSE')
    ? ['another process listens there', 'stop it, or choose another port (0 takes a free one)']
    : cause.message.includes('EACCES')
      ? ['this user may not', 'choose a port of 1024 or more']
      : ['this machine has no such address', 'listen on 127.0.0.1, 0.0.0.0 or an address of this machine'];
  return new WhittleError('PORT', `cannot listen on ${address}: ${reason}; ${cure}`, { cause, data: { host, port } });
}

function hostPort(host: string, port: number): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`;
}

function shutDown(server: Server, connections: ServerConnections, graceMilliseconds: number): Promise<void> {
  return new Promise<void>((resolve) => {
    // Again and again: a connection accepted at the last moment becomes a session only later.
    const timer = setInterval(() => {
      // grpc-js waits for ever for a session that was just being destroyed when it was asked to shut down.
      if (connections.isEmpty) done();
      else connections.destroy();
    }, graceMilliseconds);
    const done = (): void => {
      clearInterval(timer);
      resolve();
    };
    server.tryShutdown(done);
  });
}

/** A unary handler from an async function; what it throws reaches the caller as the same WhittleError code. */
export function unaryHandler<Request, Reply>(
  answer: (request: Request, call: ServerUnaryCall<Request, Reply>) => Promise<Reply> | Reply,
): handleUnaryCall<Request, Reply> {
  return (call, callback) => {
    void (async () => answer(call.request, call))().then(
      (reply) => callback(null, reply),
      (reason: unknown) => callback(toStatus(reason), null),
    );
  };
}
