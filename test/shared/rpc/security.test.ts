import assert from 'node:assert/strict';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { hostname } from 'node:os';
import { Metadata } from '@grpc/grpc-js';
import { TOKEN_HEADER, TOKEN_SCHEME } from '../../../shared/rpc/credentials.ts';
import type { RunCredentials } from '../../../shared/rpc/credentials.ts';
import { healthClient, parameterServerClient, unary } from '../../../shared/rpc/client.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { FrameStream } from '../../../shared/rpc/frame-stream.ts';
import type { FrameDuplex } from '../../../shared/rpc/frame-stream.ts';
import { MAX_MESSAGE_BYTES } from '../../../shared/rpc/options.ts';
import { startServer, unaryHandler } from '../../../shared/rpc/server.ts';
import type { RunningServer, ServerOptions } from '../../../shared/rpc/server.ts';
import { CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES } from '../../../shared/rpc/windows.ts';
import { newToken } from '../../../shared/security/token.ts';
import { newCredentials } from '../security/support.ts';
import { Proxy, deferred, startPair, stopPair } from './support.ts';
import type { Pair } from './support.ts';

const soon = { deadlineMilliseconds: 5000 };
const norm = { ShareNorm: unaryHandler(() => ({})) };

const isCode =
  (code: string, message = /./) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof WhittleError);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  };

/** Lines of a server's log about refused callers; `next` waits for one that matches. */
function refusalsOf(server: RunningServer): { lines: string[]; next: (pattern: RegExp) => Promise<string> } {
  const lines: string[] = [];
  const waits: (() => void)[] = [];
  server.logRefusals((fields, message) => {
    lines.push(`${String(fields['peer'])} ${message}`);
    for (const look of waits.splice(0)) look();
  });
  return {
    lines,
    next: (pattern) =>
      new Promise((resolve) => {
        const look = (): void => {
          const found = lines.find((line) => pattern.test(line));
          if (found === undefined) waits.push(look);
          else resolve(found);
        };
        look();
      }),
  };
}

describe('who is let in', () => {
  let credentials: RunCredentials & { readonly token: string };
  let stranger: RunCredentials;
  before(async () => {
    credentials = await newCredentials();
    stranger = await newCredentials();
  });

  async function withPair(
    options: Partial<ServerOptions> & { readonly client?: RunCredentials },
    run: (pair: Pair & { refusals: ReturnType<typeof refusalsOf> }) => Promise<void>,
    handlers: Parameters<typeof startPair>[0] = norm,
  ): Promise<void> {
    const pair = await startPair(handlers, undefined, options);
    try {
      await run({ ...pair, refusals: refusalsOf(pair.server) });
    } finally {
      pair.client.close();
      await pair.server.stop(10);
    }
  }

  for (const kind of ['mutual TLS', 'plain text'] as const) {
    describe(`over ${kind}`, () => {
      const own = (): RunCredentials => (kind === 'plain text' ? { ...credentials, certificates: null } : credentials);

      it('members are: unary calls and streams', () =>
        withPair(
          { credentials: own() },
          async ({ client, refusals }) => {
            assert.deepEqual(await unary(client, 'shareNorm', {}, soon), {});
            const stream = new FrameStream(client.exchange(), { peer: 'S[0]' });
            stream.onMessage(() => undefined);
            await stream.send({ kind: 'PUSH' }, new Uint8Array(3 << 20));
            assert.equal(await stream.close(), null);
            assert.deepEqual(refusals.lines, []);
          },
          {
            ...norm,
            Exchange: (call) => {
              assert.deepEqual(call.metadata.get('authorization'), [], 'the token stays at the door');
              new FrameStream(call, { peer: 'W[0]' }).onMessage(() => undefined);
            },
          },
        ));

      for (const [name, token, message] of [
        ['no token', null, /carries no run token; give the command this run/],
        ['a wrong token', newToken(), /carries another token/],
      ] as const) {
        it(`callers with ${name} are not, and reach no handler`, () =>
          withPair(
            { credentials: own(), client: { ...own(), token } },
            async ({ client, refusals }) => {
              await assert.rejects(unary(client, 'shareNorm', {}, soon), isCode('SECURITY', message));
              const stream = new FrameStream(client.exchange(), { peer: 'S[0]' });
              stream.onMessage(() => undefined);
              await assert.rejects(stream.send({ kind: 'OPEN' }, new Uint8Array(9)), isCode('SECURITY', message));
              for (const method of ['ShareNorm', 'Exchange'])
                assert.match(await refusals.next(new RegExp(method)), /^127\.0\.0\.1:\d+ refused: .*UNAUTHENTICATED/);
            },
            {
              ShareNorm: () => assert.fail('a handler was reached'),
              Exchange: () => assert.fail('a handler was reached'),
            },
          ));
      }

      it('a health check is, without a token; the rest of the health service is not', async () => {
        const server = await startServer({ host: '127.0.0.1', port: 0, services: [], credentials: own() });
        const client = healthClient(server.address, { ...own(), token: null });
        assert.equal((await unary(client, 'check', { service: '' }, soon)).status, 'NOT_SERVING');
        const watch = client.makeServerStreamRequest(
          '/grpc.health.v1.Health/Watch',
          () => Buffer.alloc(0),
          (bytes: Buffer) => bytes,
          {},
        );
        const error = await new Promise<Error>((resolve) => watch.once('error', resolve));
        assert.match(error.message, /carries no run token/);
        client.close();
        await server.stop(10);
      });
    });
  }

  describe('by certificate:', () => {
    it('a client of another authority is refused in the handshake', () =>
      withPair({ credentials, client: { ...stranger, token: credentials.token } }, async ({ client, refusals }) => {
        await assert.rejects(unary(client, 'shareNorm', {}, soon), isCode('ROLE_LOST'));
        await refusals.next(/TLS handshake failed/);
      }));

    it('a client that trusts the server and has no certificate of the run is refused', () =>
      withPair(
        {
          credentials,
          client: {
            token: credentials.token,
            certificates: { ...stranger.certificates!, authority: credentials.certificates!.authority },
          },
        },
        async ({ client, refusals }) => {
          await assert.rejects(unary(client, 'shareNorm', {}, soon), isCode('ROLE_LOST'));
          await refusals.next(/TLS handshake failed: .*(VERIFY|ISSUER)/);
        },
      ));

    it('plain text is refused', () =>
      withPair({ credentials, client: { ...credentials, certificates: null } }, async ({ client, refusals }) => {
        await assert.rejects(unary(client, 'shareNorm', {}, soon), isCode('ROLE_LOST'));
        await refusals.next(/TLS handshake failed/);
      }));

    it('a server under a name that its certificate lacks is not trusted', async () => {
      const elsewhere = await newCredentials();
      const server = await startServer({ host: '127.0.0.2', port: 0, services: [], credentials: elsewhere });
      const client = healthClient(server.address, elsewhere);
      await assert.rejects(
        unary(client, 'check', { service: '' }, soon),
        isCode('ROLE_LOST', /127\.0\.0\.2 is not in the cert's list/i),
      );
      client.close();
      await server.stop(10);
      const covered = await newCredentials(['127.0.0.2']);
      const second = await startServer({ host: '127.0.0.2', port: 0, services: [], credentials: covered });
      const trusting = healthClient(second.address, covered);
      assert.equal((await unary(trusting, 'check', { service: '' }, soon)).status, 'NOT_SERVING');
      trusting.close();
      await second.stop(10);
    });
  });

  it('nobody off loopback without certificates, unless insisted', async () => {
    const open = { host: '0.0.0.0', port: 0, services: [], credentials: { ...credentials, certificates: null } };
    await assert.rejects(
      startServer(open),
      isCode('SECURITY', /0\.0\.0\.0 without certificates.*whittle certs.*--insecure/),
    );
    const insisted = await startServer({ ...open, listening: { insecure: true } });
    assert.equal(insisted.address, `${hostname()}:${insisted.port}`);
    await insisted.stop(10);
    const safe = await startServer({ ...open, credentials, listening: { advertise: 'node7' } });
    assert.equal(safe.address, `node7:${safe.port}`);
    await safe.stop(10);
  });

  it('probes without a certificate, on a port of their own', async () => {
    const [free] = await Promise.all([startServer({ host: '127.0.0.1', port: 0, services: [] })]);
    const healthPort = free.port;
    await free.stop(0);
    const pair = await startPair(norm, undefined, { credentials, serving: true, listening: { healthPort } });
    const probe = healthClient(`127.0.0.1:${healthPort}`, { token: null, certificates: null });
    const status = async (): Promise<string> => (await unary(probe, 'check', { service: '' }, soon)).status;
    assert.equal(await status(), 'SERVING');
    pair.server.setServing(false);
    assert.equal(await status(), 'NOT_SERVING');
    const nosy = parameterServerClient(`127.0.0.1:${healthPort}`, { ...credentials, certificates: null });
    await assert.rejects(unary(nosy, 'shareNorm', {}, soon), isCode('PROTOCOL', /shareNorm|unknown method/i));
    probe.close();
    nosy.close();
    await stopPair(pair);
  });

  describe('TLS sessions', () => {
    it('have the raised windows, and their bytes are counted', async () => {
      const pair = await startPair(norm, undefined, { credentials });
      const { authority: ca, certificate: cert, key } = credentials.certificates!;
      const session = connectHttp2(`https://${pair.server.address}`, { ca, cert, key });
      await new Promise((resolve) => session.once('remoteSettings', resolve));
      await new Promise((resolve) => session.ping(resolve));
      assert.equal(session.remoteSettings.initialWindowSize, STREAM_WINDOW_BYTES);
      assert.equal(session.state.remoteWindowSize, CONNECTION_WINDOW_BYTES);
      assert.deepEqual(pair.server.windows(), [{ stream: STREAM_WINDOW_BYTES, connection: CONNECTION_WINDOW_BYTES }]);
      session.destroy();
      await unary(pair.client, 'shareNorm', { sums: Array.from({ length: 1 << 17 }, Math.random) }, soon);
      const { read } = pair.server.socketBytes();
      assert.ok(read > 8 << 17 && read < (8 << 17) * 1.05, `${read} bytes read`);
      await stopPair(pair);
      const closed = pair.server.socketBytes().read;
      assert.ok(closed >= read, `${closed} bytes after the end, ${read} before`);
    });

    it('let 1 MiB through to the server that does not answer', async () => {
      const opened = deferred<FrameDuplex>();
      const pair = await startPair(
        {
          Exchange: (call) => {
            call.on('error', () => undefined);
            call.write({ credit: 1 });
            call.resume();
            opened.resolve(call);
          },
        },
        undefined,
        { credentials },
      );
      const proxy = new Proxy(pair.server.port);
      const client = parameterServerClient(`127.0.0.1:${await proxy.listen()}`, credentials);
      const call = client.exchange();
      call.on('error', () => undefined);
      await new Promise((resolve) => call.once('data', resolve));
      await opened.promise;
      proxy.downward = false;
      call.write({ chunk: new Uint8Array(1 << 20) });
      await proxy.when(() => proxy.bytesFromClient > 1 << 20);
      call.cancel();
      client.close();
      await proxy.close();
      await stopPair(pair);
    });
  });

  describe('bounds:', () => {
    const plain = (): RunCredentials => ({ ...credentials, certificates: null });
    const raw = async (pair: Pair, bytes?: Uint8Array): Promise<Socket> => {
      const socket = connect(pair.server.port, '127.0.0.1').on('error', () => undefined);
      await new Promise((resolve) => socket.once('connect', resolve));
      if (bytes) socket.write(bytes);
      return socket;
    };
    const ended = (socket: Socket): Promise<void> =>
      new Promise((resolve) => (socket.destroyed ? resolve() : socket.resume().once('close', () => resolve())));

    it('a connection that does not show the token in time is cut', () =>
      withPair({ credentials: plain(), limits: { strangerMilliseconds: 50 } }, async (pair) => {
        const session = connectHttp2(`http://${pair.server.address}`).on('error', () => undefined);
        await new Promise((resolve) => session.once('close', resolve));
        await pair.refusals.next(/has not shown the run's token in 0\.05 s/);
        assert.deepEqual(await unary(pair.client, 'shareNorm', {}, soon), {});
      }));

    it('strangers make room for strangers, never members', () =>
      withPair({ credentials: plain(), limits: { strangers: 2 } }, async (pair) => {
        await unary(pair.client, 'shareNorm', {}, soon);
        const sockets = [await raw(pair), await raw(pair), await raw(pair)];
        await ended(sockets[0]!);
        await pair.refusals.next(/2 connections have not shown/);
        assert.equal(sockets[1]!.destroyed, false);
        assert.deepEqual(await unary(pair.client, 'shareNorm', {}, soon), {});
        for (const socket of sockets) socket.destroy();
      }));

    it('connections beyond the most there may be are closed', () =>
      withPair({ credentials: plain(), limits: { connections: 2 } }, async (pair) => {
        await unary(pair.client, 'shareNorm', {}, soon);
        const second = await raw(pair);
        await ended(await raw(pair));
        await pair.refusals.next(/2 connections are open/);
        second.destroy();
      }));

    it('random bytes end their connection only', () =>
      withPair({ credentials: plain() }, async (pair) => {
        const bytes = Uint8Array.from({ length: 4096 }, (_, i) => (i * 167 + 13) & 255);
        await ended(await raw(pair, bytes));
        await pair.refusals.next(/does not speak HTTP\/2/);
        assert.deepEqual(await unary(pair.client, 'shareNorm', {}, soon), {});
      }));

    it('calls beyond the most there may be are refused', () =>
      withPair(
        { credentials: plain(), limits: { openCalls: 1 } },
        async ({ client, refusals }) => {
          const stream = client.exchange();
          stream.on('error', () => undefined).resume();
          stream.write({});
          await assert.rejects(
            (async () => {
              for (;;) await unary(client, 'shareNorm', {}, soon);
            })(),
            isCode('PROTOCOL', /1 calls are open here/),
          );
          await refusals.next(/1 calls are open/);
          stream.cancel();
        },
        { ...norm, Exchange: (call) => void call.resume().on('error', () => undefined) },
      ));

    it('a stream must say something in time', () =>
      withPair(
        { credentials: plain(), limits: { firstMessageMilliseconds: 30 } },
        async ({ client, refusals }) => {
          const stream = client.exchange().resume();
          const error = await new Promise<Error>((resolve) => stream.once('error', resolve));
          assert.match(error.message, /no message came on Exchange within 0\.03 s/);
          await refusals.next(/no message came/);
        },
        { Exchange: (call) => void call.resume().on('error', () => undefined) },
      ));

    it('messages, metadata and encodings beyond their size are refused before they are decoded', () =>
      withPair({ credentials: plain() }, async ({ client, refusals }) => {
        const send = (bytes: Buffer, metadata = new Metadata()): Promise<Error | null> =>
          new Promise((resolve) =>
            client.makeUnaryRequest(
              '/whittle.ParameterServer/ShareNorm',
              () => bytes,
              (reply: Buffer) => reply,
              {},
              metadata,
              (error) => resolve(error),
            ),
          );
        assert.match((await send(Buffer.alloc(MAX_MESSAGE_BYTES + 1)))!.message, /RESOURCE_EXHAUSTED/);
        const garbage = Buffer.from([0x22, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3]);
        assert.match((await send(garbage))!.message, /INTERNAL.*deserializing/);
        await refusals.next(/ShareNorm: Error deserializing request/);
        const large = new Metadata();
        large.set('x', 'y'.repeat(20_000));
        assert.notEqual(await send(Buffer.alloc(0), large), null);
        assert.equal(await send(Buffer.alloc(0)), null);
      }));

    it('a caller who never reads is cut', () =>
      withPair(
        { credentials: plain(), limits: { stallMilliseconds: 100 } },
        async (pair) => {
          // A plain HTTP/2 client keeps its small first windows: a few messages fill them.
          const session = connectHttp2(`http://127.0.0.1:${pair.server.port}`).on('error', () => undefined);
          const closed = new Promise((resolve) => session.once('close', resolve));
          const request = session.request({
            ':method': 'POST',
            ':path': '/whittle.ParameterServer/Exchange',
            'content-type': 'application/grpc',
            te: 'trailers',
            [TOKEN_HEADER]: `${TOKEN_SCHEME}${credentials.token ?? ''}`,
          });
          request.on('error', () => undefined).pause();
          // An empty frame in gRPC's envelope: one byte of flags, four of length.
          request.write(Buffer.alloc(5));
          await pair.refusals.next(/Exchange: the caller has read nothing for 0\.1 s; its connection is cut/);
          await closed;
        },
        {
          Exchange: (call) => {
            call.on('error', () => undefined);
            const fill = (): void => {
              while (!call.destroyed && call.write({ chunk: new Uint8Array(1 << 20) }));
            };
            call.on('drain', fill);
            fill();
          },
        },
      ));
  });

  it('a vanished host is seen on both sides within about 20 s', async function () {
    this.timeout(60_000);
    const accepted = deferred<FrameStream>();
    const pair = await startPair({
      Exchange: (call) => {
        const stream = new FrameStream(call, { peer: 'W[0]' });
        stream.onMessage(() => accepted.resolve(stream));
      },
    });
    const proxy = new Proxy(pair.server.port);
    const client = parameterServerClient(`127.0.0.1:${await proxy.listen()}`);
    const worker = new FrameStream(client.exchange(), { peer: 'S[0]' });
    worker.onMessage(() => undefined);
    await worker.send({ kind: 'OPEN' });
    const shard = await accepted.promise;
    const since = performance.now();
    proxy.upward = false;
    proxy.downward = false;
    const reasons = await Promise.all([worker.closed, shard.closed]);
    for (const reason of reasons) assert.equal(reason?.code, 'ROLE_LOST');
    const waited = (performance.now() - since) / 1000;
    assert.ok(waited < 30, `${waited} s`);
    client.close();
    await proxy.close();
    await stopPair(pair);
  });
});
