import { createServer, connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { ParameterServerHandlers } from '../../../protos/generated/whittle/ParameterServer.ts';
import type { ParameterServerClient } from '../../../protos/generated/whittle/ParameterServer.ts';
import type { RunCredentials } from '../../../shared/rpc/credentials.ts';
import { parameterServerClient } from '../../../shared/rpc/client.ts';
import { FrameStream } from '../../../shared/rpc/frame-stream.ts';
import type { FrameDuplex, FrameStreamOptions } from '../../../shared/rpc/frame-stream.ts';
import { ParameterServer } from '../../../shared/rpc/proto.ts';
import { service, startServer, unaryHandler } from '../../../shared/rpc/server.ts';
import type { RunningServer, ServerOptions } from '../../../shared/rpc/server.ts';

export interface Pair {
  readonly server: RunningServer;
  readonly client: ParameterServerClient;
}

const noAnswer = unaryHandler<unknown, never>(() => {
  throw new Error('not part of this test');
});

/** A parameter server on loopback of which a test fills in what it needs. */
export async function startPair(
  handlers: Partial<ParameterServerHandlers>,
  port?: number,
  options: Partial<ServerOptions> & { readonly client?: RunCredentials } = {},
): Promise<Pair> {
  const { client = options.credentials, ...serverOptions } = options;
  const server = await startServer({
    host: '127.0.0.1',
    port: 0,
    ...serverOptions,
    services: [
      service(ParameterServer.service as never, {
        Configure: noAnswer,
        Exchange: (call: FrameDuplex) => call.end(),
        Histogram: noAnswer,
        CommitMask: noAnswer,
        ShareNorm: noAnswer,
        ...handlers,
      }),
    ],
  });
  return { server, client: parameterServerClient(port === undefined ? server.address : `127.0.0.1:${port}`, client) };
}

export async function stopPair({ server, client }: Pair): Promise<void> {
  client.close();
  await server.stop(1000);
}

/** Both ends of one Exchange stream over loopback. */
export async function streamPair(
  atClient: Partial<FrameStreamOptions> = {},
  atServer: Partial<FrameStreamOptions> = {},
): Promise<Pair & { worker: FrameStream; shard: FrameStream }> {
  let found: (stream: FrameStream) => void = () => undefined;
  const accepted = new Promise<FrameStream>((resolve) => (found = resolve));
  const pair = await startPair({
    Exchange: (call) => found(new FrameStream(call, { peer: 'W[0]', ...atServer })),
  });
  const worker = new FrameStream(pair.client.exchange(), { peer: 'S[0]', ...atClient });
  return { ...pair, worker, shard: await accepted };
}

/** A TCP proxy whose directions can be stopped; counts what reached it. */
export class Proxy {
  readonly #server = createServer((socket) => this.#join(socket));
  readonly #sockets = new Set<Socket>();
  readonly #target: number;
  upward = true;
  downward = true;
  bytesFromClient = 0;
  bytesFromServer = 0;
  readonly #waits: (() => void)[] = [];

  constructor(target: number) {
    this.#target = target;
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  /** Resolves when `condition` holds; it is looked at after every arrival. */
  when(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (condition()) resolve();
        else this.#waits.push(look);
      };
      look();
    });
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(near: Socket): void {
    const far = connect(this.#target, '127.0.0.1');
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        near.destroy();
        far.destroy();
      });
    }
    near.on('data', (data) => {
      this.bytesFromClient += data.length;
      if (this.upward) far.write(data);
      this.#look();
    });
    far.on('data', (data) => {
      this.bytesFromServer += data.length;
      if (this.downward) near.write(data);
      this.#look();
    });
  }

  #look(): void {
    for (const look of this.#waits.splice(0)) look();
  }
}

export interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
}

export function deferred<T = void>(): Deferred<T> {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((settle) => (resolve = settle));
  return { promise, resolve };
}
