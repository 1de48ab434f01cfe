import assert from 'node:assert/strict';
import { connect as connectHttp2 } from 'node:http2';
import { hostname } from 'node:os';
import type { RunCredentials } from '../../../shared/rpc/credentials.ts';
import { healthClient, parameterServerClient, unary } from '../../../shared/rpc/client.ts';
import { FrameStream } from '../../../shared/rpc/frame-stream.ts';
import type { FrameDuplex } from '../../../shared/rpc/frame-stream.ts';
import { startServer } from '../../../shared/rpc/server.ts';
import { CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES } from '../../../shared/rpc/windows.ts';
import { newToken } from '../../../shared/security/token.ts';
import { newCredentials } from '../security/support.ts';
import { isCode, norm, soon, withPair } from './security-support.ts';
import { Proxy, deferred, startPair, stopPair } from './support.ts';

describe('who is let in', () => {
  let credentials: RunCredentials & { readonly token: string };
  let stranger: RunCredentials;
  before(async () => {
    credentials = await newCredentials();
    stranger = await newCredentials();
  });

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
