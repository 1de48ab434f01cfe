import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { ServerUnaryCall, ServiceDefinition, UntypedServiceImplementation, handleUnaryCall } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import { WhittleError } from '../errors.ts';
import { transportOptions } from './options.ts';
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
}

export interface RunningServer {
  /** `host:port` as bound; with port 0 the port that was free. */
  readonly address: string;
  readonly port: number;
  socketBytes(): SocketBytes;
  windows(): SessionWindows[];
  setServing(serving: boolean): void;
  /** Takes no new calls, lets running ones end for at most `graceMilliseconds`, then cuts them. Repeatable. */
  stop(graceMilliseconds: number): Promise<void>;
}

/** Starts a gRPC server with health service, raised windows and bounded messages. Errors: PORT. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const server = new Server(transportOptions);
  const connections = new ServerConnections(server);
  const health = new HealthImplementation({ '': options.serving === true ? 'SERVING' : 'NOT_SERVING' });
  health.addToServer(server);
  for (const { definition, handlers } of options.services) server.addService(definition, handlers);

  const port = await bind(server, options.host, options.port);
  connections.bound();
  let stopped: Promise<void> | undefined;
  return {
    address: hostPort(options.host, port),
    port,
    socketBytes: () => connections.socketBytes(),
    windows: () => connections.windows(),
    setServing: (serving) => health.setStatus('', serving ? 'SERVING' : 'NOT_SERVING'),
    stop(graceMilliseconds) {
      health.setStatus('', 'NOT_SERVING');
      stopped ??= shutDown(server, connections, graceMilliseconds);
      return stopped;
    },
  };
}

function bind(server: Server, host: string, port: number): Promise<number> {
  return new Promise<number>((resolve, reject) => {
    server.bindAsync(hostPort(host, port), ServerCredentials.createInsecure(), (error, bound) => {
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
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function shutDown(server: Server, connections: ServerConnections, graceMilliseconds: number): Promise<void> {
  return new Promise<void>((resolve) => {
    // Again and again: a connection accepted at the last moment becomes a session only later.
    const timer = setInterval(() => connections.destroy(), graceMilliseconds);
    server.tryShutdown(() => {
      clearInterval(timer);
      resolve();
    });
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
