/**
 * The one file that touches private fields of grpc-js (pinned to 1.14.7). test/shared/rpc/windows.test.ts
 * fails if another release moves them.
 *
 * HTTP/2 gives a receiver 65,535 bytes of window, which is at most that much a round trip: 12-17 MB/s
 * at 2 ms. grpc-js raises it for clients by an option, for servers not at all. A server needs both: the
 * stream's window, which is a setting that listens at bind time, and the connection's window, which can
 * only be set on each session.
 */
import type { ChannelOptions, Server } from '@grpc/grpc-js';
import type { Http2Server, ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import { WhittleError } from '../errors.ts';

/** Bytes that a peer may have under way on one stream: 2 ms at 4 GB/s. */
export const STREAM_WINDOW_BYTES = 8 << 20;

/** Twice a stream's, so that a full bulk stream does not hold up the calls beside it. */
export const CONNECTION_WINDOW_BYTES = 2 * STREAM_WINDOW_BYTES;

/** For channels: both windows of the client's side. */
export const clientWindowOptions: ChannelOptions = { 'grpc-node.flow_control_window': STREAM_WINDOW_BYTES };

interface PrivateServer {
  readonly commonServerOptions?: { settings?: Record<string, unknown> };
  readonly http2Servers?: ReadonlyMap<Http2Server, unknown>;
}

export interface SocketBytes {
  readonly read: number;
  readonly written: number;
}

/** Windows in force on one connection, in bytes: what the peer may send before it hears from us. */
export interface SessionWindows {
  readonly stream: number;
  readonly connection: number;
}

/** Raises a server's windows and counts its sockets' bytes. Make it before binding, call `bound` after. */
export class ServerConnections {
  readonly #server: PrivateServer;
  readonly #sockets = new Set<Socket>();
  readonly #sessions = new Set<ServerHttp2Session>();
  #closedRead = 0;
  #closedWritten = 0;

  constructor(server: Server) {
    this.#server = server as unknown as PrivateServer;
    const options = this.#server.commonServerOptions;
    if (options === undefined) throw moved('commonServerOptions');
    options.settings = { ...options.settings, initialWindowSize: STREAM_WINDOW_BYTES };
  }

  bound(): void {
    const listeners = [...(this.#server.http2Servers?.keys() ?? [])];
    if (listeners.length === 0) throw moved('http2Servers');
    for (const listener of listeners) {
      listener.on('connection', (socket: Socket) => this.#addSocket(socket));
      listener.on('session', (session: ServerHttp2Session) => this.#addSession(session));
    }
  }

  /** Bytes of all connections since the start, closed ones included: TCP payload, HTTP/2 framing and all. */
  socketBytes(): SocketBytes {
    let read = this.#closedRead;
    let written = this.#closedWritten;
    for (const socket of this.#sockets) {
      read += socket.bytesRead;
      written += socket.bytesWritten;
    }
    return { read, written };
  }

  /** One entry for each open connection. */
  windows(): SessionWindows[] {
    return [...this.#sessions].map((session) => ({
      stream: session.localSettings.initialWindowSize ?? 0,
      connection: session.state.effectiveLocalWindowSize ?? 0,
    }));
  }

  /** Cuts every connection. grpc-js's forceShutdown forgets its sessions when channelz is off. */
  destroy(): void {
    for (const session of this.#sessions) session.destroy();
    // A session that was asked to close only ends its socket, which then waits for the peer: a frozen one never answers.
    for (const socket of this.#sockets) socket.destroy();
  }

  #addSocket(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#closedRead += socket.bytesRead;
      this.#closedWritten += socket.bytesWritten;
    });
  }

  #addSession(session: ServerHttp2Session): void {
    this.#sessions.add(session);
    session.once('close', () => this.#sessions.delete(session));
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  }
}

function moved(field: string): WhittleError {
  return new WhittleError(
    'INTERNAL',
    `@grpc/grpc-js has no Server.${field}; shared/rpc/windows.ts needs exactly 1.14.7`,
  );
}
