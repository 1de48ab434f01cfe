import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { rm, statfs } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { availableParallelism, freemem, totalmem } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { WhittleError } from '../../shared/errors.ts';
import type { BackendKind } from '../../shared/config/types.ts';
import { formatBytes } from './quantities.ts';

/** One line of `whittle doctor`. A cure is there wherever the status is not ok. */
export interface Finding {
  readonly check: string;
  readonly status: 'ok' | 'warn' | 'fail';
  readonly detail: string;
  readonly cure?: string;
}

/** The oldest Node that package.json's engines allow. */
const OLDEST_NODE = [20, 19] as const;
const GIGABYTE = 1e9;

export function checkNode(version: string = process.versions.node): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const isOld = major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1]);
  if (!isOld) return { check: 'node', status: 'ok', detail: `v${version}` };
  return {
    check: 'node',
    status: 'fail',
    detail: `v${version} is too old`,
    cure: `install Node ${OLDEST_NODE.join('.')} or newer`,
  };
}

export function checkCores(cores: number = availableParallelism()): Finding {
  const detail = `${cores} ${cores === 1 ? 'core' : 'cores'}`;
  if (cores > 1) return { check: 'cores', status: 'ok', detail };
  return {
    check: 'cores',
    status: 'warn',
    detail,
    cure: 'use cluster: { servers: 1, workers: 1 } here: more processes only take turns',
  };
}

/** A worker with the wasm backend and MNIST takes about 0.4 GB. */
export function checkMemory(free: number = freemem(), total: number = totalmem()): Finding {
  const detail = `${formatBytes(free)} free of ${formatBytes(total)}`;
  if (free >= GIGABYTE) return { check: 'memory', status: 'ok', detail };
  return { check: 'memory', status: 'warn', detail, cure: 'close other programs, or use fewer servers and workers' };
}

/** Imports each backend, and computes with the one that `auto` picks. */
export async function checkBackends(): Promise<Finding> {
  const { resolveBackend, loadBackend } = await import('../../worker/backend/backend.ts');
  const kinds: readonly BackendKind[] = ['tensorflow-gpu', 'tensorflow', 'wasm', 'cpu'];
  const missing: BackendKind[] = [];
  for (const kind of kinds) {
    try {
      await resolveBackend(kind);
    } catch {
      missing.push(kind);
    }
  }
  const loads = kinds.filter((kind) => !missing.includes(kind)).join(', ');
  try {
    const kind = await resolveBackend('auto');
    const { tf } = await loadBackend(kind);
    const product = tf.tidy(() => tf.matMul(tf.tensor2d([[1, 2]]), tf.tensor2d([[3], [4]])).dataSync()[0]);
    if (product !== 11) throw new Error(`${kind} computes 1 x 3 + 2 x 4 = ${product}`);
    const others = missing.length === 0 ? '' : `; not installed: ${missing.join(', ')}`;
    return { check: 'backends', status: 'ok', detail: `auto picks ${kind}; load: ${loads}${others}` };
  } catch (reason) {
    return {
      check: 'backends',
      status: 'fail',
      detail: WhittleError.from(reason).rawMessage,
      cure: 'install the dependencies again: npm ci',
    };
  }
}

export async function checkData(): Promise<Finding> {
  const { loadData } = await import('../../worker/data/load-data.ts');
  const { fashionMnistFolder } = await import('../../worker/data/fashion-mnist.ts');
  const fashion = existsSync(fashionMnistFolder())
    ? `fashion-mnist in ${fashionMnistFolder()}`
    : `fashion-mnist, which is optional, is not in ${fashionMnistFolder()}`;
  try {
    const { train, test } = await loadData('mnist');
    return { check: 'data', status: 'ok', detail: `mnist (${train.size} + ${test?.size ?? 0} examples); ${fashion}` };
  } catch (reason) {
    return {
      check: 'data',
      status: 'warn',
      detail: WhittleError.from(reason).rawMessage,
      cure: 'npm ci; or use data of your own',
    };
  }
}

export function checkPort(host = '127.0.0.1'): Promise<Finding> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', (error) => {
      done({
        check: 'port',
        status: 'fail',
        detail: `cannot listen on ${host}: ${error.message}`,
        cure: 'bring the loopback interface up, or allow listening in this sandbox',
      });
    });
    server.listen(0, host, () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => done({ check: 'port', status: 'ok', detail: `${host}:${port} is free` }));
    });
  });
}

/** Writes, syncs, renames and reads back a file where the runs will lie; leaves nothing behind. */
export async function checkRunsFolder(folder: string): Promise<Finding> {
  const { writeDurably } = await import('../../shared/checkpoint/durable.ts');
  const path = resolve(folder);
  const made: string[] = [];
  const probe = join(path, `.doctor-${randomBytes(4).toString('hex')}`);
  const bytes = randomBytes(4096);
  try {
    makeMissing(path, made);
    await writeDurably(probe, bytes.length, (sink) => sink(bytes));
    if (!readFileSync(probe).equals(bytes))
      throw new WhittleError('DISK', `${path} gives back other bytes than were written`);
    const { bavail, bsize } = await statfs(path);
    const detail = `write, fsync, rename work in ${path}; ${formatBytes(bavail * bsize)} free`;
    if (bavail * bsize >= GIGABYTE) return { check: 'runs folder', status: 'ok', detail };
    return {
      check: 'runs folder',
      status: 'warn',
      detail,
      cure: 'free space there, or name another folder with --runs-dir',
    };
  } catch (reason) {
    return {
      check: 'runs folder',
      status: 'fail',
      detail: WhittleError.from(reason).rawMessage,
      cure: 'name another folder with --runs-dir',
    };
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
    for (const each of made.reverse()) rmdirSync(each);
  }
}

/** One by one: Node's recursive mkdir loops for ever where a file system answers ENOENT, as /proc does. */
function makeMissing(path: string, made: string[]): void {
  const parent = dirname(path);
  if (existsSync(path)) return;
  if (!existsSync(parent)) makeMissing(parent, made);
  try {
    mkdirSync(path);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    throw new WhittleError('DISK', `${path} cannot be made: ${parent} takes no folders (${code})`, { cause });
  }
  made.push(path);
}

/** Raises the windows of a server as roles do, which goes through private fields of grpc-js (design section 6). */
export async function checkTransport(): Promise<Finding> {
  const { STREAM_WINDOW_BYTES, ServerConnections } = await import('../../shared/rpc/windows.ts');
  const { SERVER_LIMITS } = await import('../../shared/rpc/options.ts');
  const { Server } = await import('@grpc/grpc-js');
  const server = new Server();
  try {
    new ServerConnections(server, { ...SERVER_LIMITS, onRefused: () => undefined });
    return {
      check: 'transport',
      status: 'ok',
      detail: `HTTP/2 windows of ${formatBytes(STREAM_WINDOW_BYTES)} instead of 65,535 bytes`,
    };
  } catch (reason) {
    const detail = `HTTP/2 windows stay at 65,535 bytes, slow between machines: ${WhittleError.from(reason).rawMessage}`;
    return {
      check: 'transport',
      status: 'warn',
      detail,
      cure: 'install the grpc-js release that package.json names: npm ci',
    };
  } finally {
    server.forceShutdown();
  }
}
