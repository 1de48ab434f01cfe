import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { PartitionProxies } from '../../../deploy/launchers/faults-proxy.ts';

/** A server that sends back what it gets. */
async function withEcho(test: (port: number) => Promise<void>): Promise<void> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => void sockets.push(socket.on('error', () => undefined).pipe(socket)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    await test((server.address() as AddressInfo).port);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

/** Connects through a role's proxy, as a gRPC client with `grpc_proxy` does; null while it is not let through. */
function tunnel(proxies: PartitionProxies, role: string, port: number): Promise<Socket> {
  const proxy = new URL(proxies.environmentOf(role)['grpc_proxy'] ?? '');
  const asked = request({ host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: `127.0.0.1:${port}` });
  asked.end();
  return once(asked, 'connect').then(([, socket]) => socket as Socket);
}

async function echoed(socket: Socket, text: string): Promise<string> {
  socket.write(text);
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  return chunk.toString();
}

describe('the proxies of a partition', () => {
  it('hold what passes between the role and all others, lose nothing, and let go when it heals', () =>
    withEcho(async (port) => {
      const proxies = await PartitionProxies.listen(['worker[0]', 'worker[1]']);
      const [cut, other] = [await tunnel(proxies, 'worker[0]', port), await tunnel(proxies, 'worker[1]', port)];
      assert.equal(await echoed(cut, 'before'), 'before');
      const heal = proxies.partition('worker[0]', []);
      let arrived = '';
      cut.on('data', (chunk: Buffer) => (arrived += chunk.toString()));
      cut.write('while cut off');
      // Of another role: it comes and goes as before, and there is time in which the bytes of the first would have passed.
      for (let i = 0; i < 20; i += 1) assert.equal(await echoed(other, `${i}`), `${i}`);
      assert.equal(arrived, '');
      const pending = tunnel(proxies, 'worker[0]', port);
      let isOpen = false;
      void pending.then(() => (isOpen = true));
      for (let i = 0; i < 20; i += 1) await nextTurn();
      assert.equal(isOpen, false, 'new connections wait too');
      heal();
      while (arrived === '') await once(cut, 'data');
      assert.equal(arrived, 'while cut off');
      assert.equal(await echoed(await pending, 'after'), 'after');
      await proxies.close();
    }));

  it('cut off who listens on the port of the role, whoever connects', () =>
    withEcho(async (port) => {
      const proxies = await PartitionProxies.listen(['worker[0]']);
      const socket = await tunnel(proxies, 'worker[0]', port);
      const heal = proxies.partition('server[0]', [String(port)]);
      let arrived = '';
      socket.on('data', (chunk: Buffer) => (arrived += chunk.toString()));
      socket.write('x');
      for (let i = 0; i < 50; i += 1) await nextTurn();
      assert.equal(arrived, '');
      heal();
      while (arrived === '') await once(socket, 'data');
      assert.equal(arrived, 'x');
      await proxies.close();
    }));
});
