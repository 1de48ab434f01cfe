import assert from 'node:assert/strict';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { Metadata } from '@grpc/grpc-js';
import { TOKEN_HEADER, TOKEN_SCHEME } from '../../../shared/rpc/credentials.ts';
import type { RunCredentials } from '../../../shared/rpc/credentials.ts';
import { unary } from '../../../shared/rpc/client.ts';
import { MAX_MESSAGE_BYTES } from '../../../shared/rpc/options.ts';
import { newCredentials } from '../security/support.ts';
import { isCode, norm, soon, withPair } from './security-support.ts';
import type { Pair } from './support.ts';

describe('what callers may take up', () => {
  let credentials: RunCredentials & { readonly token: string };
  before(async () => {
    credentials = await newCredentials();
  });

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
