import assert from 'node:assert/strict';
import { connect as connectHttp2 } from 'node:http2';
import type { Frame__Output } from '../../../protos/generated/whittle/Frame.ts';
import type { FrameDuplex } from '../../../shared/rpc/frame-stream.ts';
import { parameterServerClient } from '../../../shared/rpc/client.ts';
import { CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES } from '../../../shared/rpc/windows.ts';
import { Proxy, deferred, startPair, stopPair } from './support.ts';

const chunk = new Uint8Array(1 << 20);

describe('HTTP/2 windows', () => {
  it('advertises the raised windows to any client', async () => {
    const pair = await startPair({});
    const session = connectHttp2(`http://${pair.server.address}`);
    await new Promise((resolve) => session.once('remoteSettings', resolve));
    // A ping's answer comes after the WINDOW_UPDATE that the server sent first.
    await new Promise((resolve) => session.ping(resolve));
    assert.equal(session.remoteSettings.initialWindowSize, STREAM_WINDOW_BYTES);
    assert.equal(session.state.remoteWindowSize, CONNECTION_WINDOW_BYTES);
    assert.deepEqual(pair.server.windows(), [{ stream: STREAM_WINDOW_BYTES, connection: CONNECTION_WINDOW_BYTES }]);
    session.destroy();
    await stopPair(pair);
  });

  // With 65,535 bytes of window a sender stops there until it hears from the receiver, which it never does here.
  it('lets 1 MiB through to the server that does not answer', async () => {
    const opened = deferred<FrameDuplex>();
    const pair = await startPair({
      Exchange: (call) => {
        call.on('error', () => undefined);
        call.write({ credit: 1 });
        call.resume();
        opened.resolve(call);
      },
    });
    const proxy = new Proxy(pair.server.port);
    const client = parameterServerClient(`127.0.0.1:${await proxy.listen()}`);
    const call = client.exchange();
    call.on('error', () => undefined);
    await new Promise((resolve) => call.once('data', resolve));
    await opened.promise;
    proxy.downward = false;
    call.write({ chunk });
    await proxy.when(() => proxy.bytesFromClient > chunk.length);
    call.cancel();
    client.close();
    await proxy.close();
    await stopPair(pair);
  });

  it('lets 1 MiB through to the client that does not answer', async () => {
    const opened = deferred<FrameDuplex>();
    const pair = await startPair({
      Exchange: (call) => {
        call.on('error', () => undefined);
        call.once('data', () => opened.resolve(call));
      },
    });
    const proxy = new Proxy(pair.server.port);
    const client = parameterServerClient(`127.0.0.1:${await proxy.listen()}`);
    const call = client.exchange();
    call.on('error', () => undefined);
    const arrived = new Promise<Frame__Output>((resolve) => call.once('data', resolve));
    call.write({ credit: 1 });
    const atServer = await opened.promise;
    proxy.upward = false;
    atServer.write({ chunk });
    assert.equal((await arrived).chunk.length, chunk.length);
    call.cancel();
    client.close();
    await proxy.close();
    await stopPair(pair);
  });

  it('counts the bytes of sockets, closed ones included', async () => {
    const pair = await startPair({ Exchange: (call) => call.resume().on('end', () => call.end()) });
    const proxy = new Proxy(pair.server.port);
    const client = parameterServerClient(`127.0.0.1:${await proxy.listen()}`);
    const call = client.exchange();
    call.write({ chunk });
    call.end();
    call.resume();
    await new Promise((resolve) => call.once('status', resolve));
    const open = pair.server.socketBytes();
    assert.ok(open.read > chunk.length && open.read < chunk.length * 1.01, `read ${open.read}`);
    client.close();
    await pair.server.stop(1000);
    const closed = pair.server.socketBytes();
    assert.ok(closed.read >= open.read && closed.written >= open.written);
    await proxy.when(() => proxy.bytesFromClient === closed.read && proxy.bytesFromServer === closed.written);
    await proxy.close();
    pair.client.close();
  });
});
