import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** Makes the roles' gRPC clients use the proxy that `grpc_proxy` names; without it they ignore proxies. */
const FAULT_PROXY_VARIABLE = 'WHITTLE_FAULT_PROXY';

interface Tunnel {
  /** `role[rank]` whose connection it is. */
  readonly from: string;
  /** Port it leads to. */
  readonly port: string;
  readonly near: Duplex;
  /** Null until it may be opened. */
  far: Socket | null;
  readonly open: () => void;
}

/**
 * One HTTP CONNECT proxy for each role of a run on this machine, all of whose connections lead through it. A partition
 * of a role stops the bytes of its own connections and of those to its port, in both directions, and neither side is
 * told: what a network that drops everything looks like to both, but for keep-alive probes of the operating system.
 */
export class PartitionProxies {
  readonly #servers = new Map<string, Server>();
  readonly #tunnels = new Set<Tunnel>();
  readonly #cut = new Map<string, readonly string[]>();

  /** `roles`: `role[rank]` of each. */
  static async listen(roles: readonly string[]): Promise<PartitionProxies> {
    const proxies = new PartitionProxies();
    for (const role of roles) {
      const server = createServer();
      server.on('connect', (request: IncomingMessage, near: Duplex, head: Buffer) =>
        proxies.#connected(role, request.url ?? '', near, head),
      );
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', resolve);
      });
      proxies.#servers.set(role, server);
    }
    return proxies;
  }

  environmentOf(role: string): Readonly<Record<string, string>> {
    const server = this.#servers.get(role);
    if (server === undefined) return {};
    return {
      [FAULT_PROXY_VARIABLE]: '1',
      grpc_proxy: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      // A `no_proxy` of the user must not let roles around it.
      no_grpc_proxy: 'none.invalid',
    };
  }

  /** Cuts a role off. `ports`: those it listens on. The answer heals it. */
  partition(role: string, ports: readonly string[]): () => void {
    this.#cut.set(role, ports);
    for (const tunnel of this.#tunnels) if (this.#isCut(tunnel)) stop(tunnel);
    return () => {
      this.#cut.delete(role);
      for (const tunnel of this.#tunnels) if (!this.#isCut(tunnel)) go(tunnel);
    };
  }

  async close(): Promise<void> {
    for (const { near, far } of this.#tunnels) {
      near.destroy();
      far?.destroy();
    }
    await Promise.all([...this.#servers.values()].map((server) => new Promise((resolve) => server.close(resolve))));
  }

  #connected(from: string, target: string, near: Duplex, head: Buffer): void {
    const colon = target.lastIndexOf(':');
    const tunnel: Tunnel = {
      from,
      port: target.slice(colon + 1),
      near,
      far: null,
      open: () => {
        if (tunnel.far !== null) return;
        const far = connect({ host: target.slice(0, colon), port: Number(tunnel.port), noDelay: true });
        tunnel.far = far;
        far.once('connect', () => {
          near.write('HTTP/1.1 200 Connection established\r\n\r\n');
          far.write(head);
          if (!this.#isCut(tunnel)) go(tunnel);
        });
        far.on('data', (chunk: Buffer) => void (near.write(chunk) || far.pause()));
        far.pause();
        near.on('data', (chunk: Buffer) => void (far.write(chunk) || near.pause()));
        near.pause();
        near.on('drain', () => void (this.#isCut(tunnel) || far.resume()));
        far.on('drain', () => void (this.#isCut(tunnel) || near.resume()));
        const end = (): void => {
          this.#tunnels.delete(tunnel);
          near.destroy();
          far.destroy();
        };
        for (const side of [near, far]) {
          side.on('error', end);
          side.on('close', end);
          side.on('end', end);
        }
      },
    };
    near.on('error', () => this.#tunnels.delete(tunnel));
    near.on('close', () => this.#tunnels.delete(tunnel));
    this.#tunnels.add(tunnel);
    if (!this.#isCut(tunnel)) tunnel.open();
  }

  #isCut({ from, port }: Tunnel): boolean {
    for (const [role, ports] of this.#cut) if (role === from || ports.includes(port)) return true;
    return false;
  }
}

function stop({ near, far }: Tunnel): void {
  near.pause();
  far?.pause();
}

function go(tunnel: Tunnel): void {
  tunnel.open();
  if (tunnel.far?.connecting === true) return;
  tunnel.near.resume();
  tunnel.far?.resume();
}
