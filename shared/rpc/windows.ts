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
import type { TLSSocket } from 'node:tls';
import { WhittleError } from '../errors.ts';

/** Bytes that a peer may have under way on one stream: 2 ms at 4 GB/s. */
export const STREAM_WINDOW_BYTES = 8 << 20;

/** Twice a stream's, so that a full bulk stream does not hold up the calls beside it. */
export const CONNECTION_WINDOW_BYTES = 2 * STREAM_WINDOW_BYTES;

/** For channels: both windows of the client's side. */
export const clientWindowOptions: ChannelOptions = { 'grpc-node.flow_control_window': STREAM_WINDOW_BYTES };

/** Bytes of a call's headers and metadata; a token takes 60. More are refused by HTTP/2 itself. */
export const MAX_HEADER_BYTES = 16 << 10;

interface PrivateServer {
  readonly commonServerOptions?: { settings?: Record<string, unknown>; maxSessionInvalidFrames?: number };
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

export interface ConnectionLimits {
  /** Connections at once; the kernel's next ones are closed unread. */
  readonly connections: number;
  /** Those of them that have not shown the token yet: the oldest makes room for the next. */
  readonly strangers: number;
  /** How long a connection may take to show the token, its TLS handshake included, in milliseconds. */
  readonly strangerMilliseconds: number;
  /** Hears of connections that are refused before they make a call. */
  readonly onRefused: (peer: string, reason: string) => void;
}

/**
 * Raises a server's windows, counts its sockets' bytes, and bounds its connections. Make it before binding, call
 * `bound` after.
 */
export class ServerConnections {
  readonly #server: PrivateServer;
  readonly #limits: ConnectionLimits;
  /** Connections that have not shown the token, oldest first, and when they must have. */
  readonly #strangers = new Map<Socket, NodeJS.Timeout>();
  readonly #sockets = new Set<Socket>();
  readonly #sessions = new Set<ServerHttp2Session>();
  #lastClosed: readonly [peer: string, bytesRead: number] = ['', 0];
  #closedRead = 0;
  #closedWritten = 0;

  constructor(server: Server, limits: ConnectionLimits) {
    this.#limits = limits;
    this.#server = server as unknown as PrivateServer;
    const options = this.#server.commonServerOptions;
    if (options === undefined) throw moved('commonServerOptions');
    options.settings = {
      ...options.settings,
      initialWindowSize: STREAM_WINDOW_BYTES,
      maxHeaderListSize: MAX_HEADER_BYTES,
    };
  }

  bound(): void {
    const listeners = [...(this.#server.http2Servers?.keys() ?? [])];
    if (listeners.length === 0) throw moved('http2Servers');
    const { connections, onRefused } = this.#limits;
    for (const listener of listeners) {
      listener.maxConnections = connections;
      listener.on('drop', (data?: { remoteAddress?: string; remotePort?: number }) =>
        onRefused(
          `${data?.remoteAddress}:${data?.remotePort}`,
          `${connections} connections are open, the most there may be`,
        ),
      );
      listener.on('connection', (socket: Socket) => this.#addSocket(socket));
      listener.on('session', (session: ServerHttp2Session) => this.#addSession(session));
      listener.on('sessionError', (error: Error, session?: ServerHttp2Session) =>
        onRefused(peerOf(session?.socket), `it does not speak HTTP/2 as it must: ${error.message}`),
      );
      listener.on('tlsClientError', (error: Error, socket: TLSSocket) => this.#handshakeFailed(error, socket));
    }
  }

  /** The connection from `peer` (address:port) belongs to the run. */
  admit(peer: string): void {
    for (const [socket, timer] of this.#strangers) {
      if (peerOf(socket) !== peer) continue;
      clearTimeout(timer);
      this.#strangers.delete(socket);
      return;
    }
  }

  /** Ends a connection at once. */
  cut(peer: string): void {
    for (const socket of this.#sockets) if (peerOf(socket) === peer) socket.destroy();
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

  get isEmpty(): boolean {
    return this.#sockets.size === 0;
  }

  /** Cuts every connection. grpc-js's forceShutdown forgets its sessions when channelz is off. */
  destroy(): void {
    for (const session of this.#sessions) session.destroy();
    // A session that was asked to close only ends its socket, which then waits for the peer: a frozen one never answers.
    for (const socket of this.#sockets) socket.destroy();
  }

  #addSocket(socket: Socket): void {
    const peer = peerOf(socket);
    this.#sockets.add(socket);
    this.#addStranger(socket, peer);
    socket.once('close', () => {
      this.#lastClosed = [peer, socket.bytesRead];
      this.#sockets.delete(socket);
      clearTimeout(this.#strangers.get(socket));
      this.#strangers.delete(socket);
      this.#closedRead += socket.bytesRead;
      this.#closedWritten += socket.bytesWritten;
    });
  }

  #handshakeFailed(error: Error, socket: TLSSocket): void {
    // One that was cut in its handshake has forgotten its address by now; its TCP socket closed right before.
    const [peer, read] = socket.remotePort === undefined ? this.#lastClosed : [peerOf(socket), 1];
    const reason = (socket.authorizationError as unknown as string | null) ?? error.message;
    // A port probe connects and goes.
    if (read > 0) this.#limits.onRefused(peer, `the TLS handshake failed: ${reason}`);
  }

  #addStranger(socket: Socket, peer: string): void {
    const { strangers, strangerMilliseconds, onRefused } = this.#limits;
    const refuse = (stranger: Socket, reason: string): void => {
      onRefused(peerOf(stranger), reason);
      stranger.destroy();
    };
    const [oldest] = this.#strangers.keys();
    if (this.#strangers.size >= strangers && oldest) {
      refuse(oldest, `${strangers} connections have not shown the run's token, the most that may wait`);
    }
    const late = (): void => {
      // A probe that is kept open asks again on a new connection.
      if (socket.bytesRead > 0) onRefused(peer, `it has not shown the run's token in ${strangerMilliseconds / 1000} s`);
      socket.destroy();
    };
    this.#strangers.set(socket, setTimeout(late, strangerMilliseconds).unref());
  }

  #addSession(session: ServerHttp2Session): void {
    this.#sessions.add(session);
    session.once('close', () => this.#sessions.delete(session));
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  }
}

/** `address:port`, as grpc-js names a caller. */
function peerOf(socket: Pick<Socket, 'remoteAddress' | 'remotePort'> | undefined): string {
  return `${socket?.remoteAddress ?? 'unknown'}:${socket?.remotePort ?? 0}`;
}

function moved(field: string): WhittleError {
  return new WhittleError(
    'INTERNAL',
    `@grpc/grpc-js has no Server.${field}; shared/rpc/windows.ts needs exactly 1.14.7`,
  );
}
