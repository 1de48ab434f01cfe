import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Whether a real etcd can be started here. */
export const hasEtcd = spawnSync('etcd', ['--version']).status === 0;

export const ETCD_MISSING =
  'etcd is not installed (apt-get install etcd-server): the tests of coordination by etcd are skipped';

/** A real etcd on free ports of the loopback, its data in a temporary folder. */
export class EtcdServers {
  readonly endpoints: readonly string[];
  readonly #peers: readonly string[];
  readonly #folder = mkdtempSync(join(tmpdir(), 'whittle-etcd-'));
  readonly #processes: (ChildProcess | null)[];
  readonly #extra: readonly string[];

  private constructor(ports: readonly number[], scheme: string, extra: readonly string[]) {
    const half = ports.length / 2;
    this.endpoints = ports.slice(0, half).map((port) => `${scheme}://127.0.0.1:${port}`);
    this.#peers = ports.slice(half).map((port) => `http://127.0.0.1:${port}`);
    this.#processes = this.endpoints.map(() => null);
    this.#extra = extra;
  }

  /** Resolves when all of them answer. `extra`: further arguments; with TLS the caller names the scheme. */
  static async start(
    members: number,
    { scheme = 'http', extra = [] }: { readonly scheme?: 'http' | 'https'; readonly extra?: readonly string[] } = {},
  ): Promise<EtcdServers> {
    const servers = new EtcdServers(await freePorts(2 * members), scheme, extra);
    await Promise.all(servers.endpoints.map((_, k) => servers.launch(k)));
    return servers;
  }

  /** Starts one, also again with the data it had. */
  async launch(member: number): Promise<void> {
    const name = (k: number): string => `m${k}`;
    const child = spawn(
      'etcd',
      [
        ['--name', name(member)],
        ['--data-dir', join(this.#folder, name(member))],
        ['--listen-client-urls', this.endpoints[member]!],
        ['--advertise-client-urls', this.endpoints[member]!],
        ['--listen-peer-urls', this.#peers[member]!],
        ['--initial-advertise-peer-urls', this.#peers[member]!],
        ['--initial-cluster', this.#peers.map((peer, k) => `${name(k)}=${peer}`).join(',')],
        // Its own figures are for data centres: a lease cannot be shorter than 1.5 times the election timeout.
        ['--heartbeat-interval', '50', '--election-timeout', '500'],
        this.#extra,
      ].flat(),
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.#processes[member] = child;
    let said = '';
    await new Promise<void>((resolve, reject) => {
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        said = (said + text).slice(-20_000);
        if (/ready to serve client requests/.test(said)) resolve();
      });
      child.once('exit', (code, signal) => reject(new Error(`etcd ended (${code ?? signal}):\n${said}`)));
      child.once('error', reject);
    });
  }

  /** kill -9; resolves when it is gone. */
  async kill(member: number): Promise<void> {
    const child = this.#processes[member];
    this.#processes[member] = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  async stop(): Promise<void> {
    await Promise.all(this.endpoints.map((_, k) => this.kill(k)));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Stands between clients and an etcd, and can keep its answers from them. */
export class AnswerThief {
  readonly endpoint: string;
  /** Connections that were ever made. */
  connections = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #stolen: { readonly bytes: Buffer; readonly pass: () => void }[] | null = null;

  private constructor(server: Server) {
    this.#server = server;
    this.endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async before(endpoint: string): Promise<AnswerThief> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const thief = new AnswerThief(server);
    server.on('connection', (client) => {
      thief.connections++;
      const etcd = connect(Number(new URL(endpoint).port), '127.0.0.1');
      for (const [socket, other] of [
        [client, etcd],
        [etcd, client],
      ] as const) {
        thief.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          thief.#sockets.delete(socket);
          other.destroy();
        });
      }
      client.on('data', (bytes) => etcd.write(bytes));
      etcd.on('data', (bytes) => {
        const pass = (): void => void client.write(bytes);
        if (thief.#stolen === null) pass();
        else thief.#stolen.push({ bytes, pass });
      });
    });
    return thief;
  }

  /** From now on calls arrive and their answers do not. */
  steal(): void {
    this.#stolen = [];
  }

  hasStolen(text: string): boolean {
    return (this.#stolen ?? []).some(({ bytes }) => bytes.includes(text));
  }

  /** Nothing is stolen any more. */
  stopStealing(): void {
    const passOn = this.takeStolen();
    this.#stolen = null;
    passOn();
  }

  /** What was stolen so far; to be passed on late, or never. */
  takeStolen(): () => void {
    const stolen = this.#stolen ?? [];
    this.#stolen = [];
    return () => {
      for (const { pass } of stolen) pass();
    };
  }

  /** Breaks the connections; new ones are let alone. */
  letGo(): void {
    this.#stolen = null;
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.letGo();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

/** Listened on all at one time, so that they differ. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
