/**
 * Which TensorFlow.js backend a worker computes with, and how it is loaded. The backend's fingerprint names
 * everything that its bits depend on (design section 4): the wasm build, or TensorFlow's version, the
 * processor and the thread count.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus } from 'node:os';
import { dirname, join } from 'node:path';
import type { BackendKind } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import { tf } from './tf.ts';
import type { Tf } from './tf.ts';
import { registerGradients } from './gradients.ts';
import { registerWasmKernels } from './wasm/register.ts';

export interface Backend {
  readonly kind: BackendKind;
  readonly tf: Tf;
  /** Equal fingerprints: equal bits for equal inputs. */
  readonly fingerprint: string;
}

/** The package that must load for a backend. */
const PACKAGES: Readonly<Record<BackendKind, string>> = {
  'tensorflow-gpu': '@tensorflow/tfjs-node-gpu',
  tensorflow: '@tensorflow/tfjs-node',
  wasm: '@tensorflow/tfjs-backend-wasm',
  cpu: '@tensorflow/tfjs-backend-cpu',
};

/** What `auto` tries, best first; `cpu` only on request. */
const AUTOMATIC: readonly BackendKind[] = ['tensorflow-gpu', 'tensorflow', 'wasm'];

/**
 * The backend that `kind` means on this machine: itself if it loads, or for `auto` the first that does of
 * tensorflow-gpu, tensorflow and wasm. Throws UNSUPPORTED, naming the package, where it does not load.
 */
export async function resolveBackend(kind: BackendKind | 'auto'): Promise<BackendKind> {
  if (kind !== 'auto') {
    await importPackage(kind);
    return kind;
  }
  let failure: unknown;
  for (const candidate of AUTOMATIC) {
    try {
      await importPackage(candidate);
      return candidate;
    } catch (reason) {
      failure = reason;
    }
  }
  throw WhittleError.from(failure);
}

/** Loads a backend into this thread and makes it the one that `tf` computes with. */
export async function loadBackend(kind: BackendKind): Promise<Backend> {
  registerGradients();
  tf.enableProdMode(); // else the cpu backend prints a banner
  if (kind === 'wasm') return { kind, tf, fingerprint: await loadWasm() };
  const module = await importPackage(kind);
  await select(kind, kind === 'cpu' ? 'cpu' : 'tensorflow');
  return {
    kind,
    tf,
    fingerprint: kind === 'cpu' ? `cpu-${tf.version_core}-node${process.versions.node}` : tensorflow(module),
  };
}

async function importPackage(kind: BackendKind): Promise<Record<string, unknown>> {
  process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '2'; // TensorFlow's own banner
  // A variable, because the native packages are not dependencies: the user installs the one that fits.
  const name = PACKAGES[kind];
  try {
    return (await import(name)) as Record<string, unknown>;
  } catch (reason) {
    const cause = reason instanceof Error ? (reason.message.split('\n')[0] ?? '') : String(reason);
    throw new WhittleError(
      'UNSUPPORTED',
      `backend ${kind} does not load: ${cause}; run \`npm install ${name}\`, or set cluster.backend to wasm or auto`,
      { cause: reason, data: { backend: kind, package: name } },
    );
  }
}

async function select(kind: BackendKind, name: string): Promise<void> {
  let cause: unknown;
  const ok = await tf.setBackend(name).catch((reason: unknown) => {
    cause = reason;
    return false;
  });
  if (ok) return;
  throw new WhittleError(
    'UNSUPPORTED',
    `backend ${kind} is installed but does not start; set cluster.backend to wasm`,
    {
      cause,
      data: { backend: kind },
    },
  );
}

async function loadWasm(): Promise<string> {
  const module = (await importPackage('wasm')) as unknown as typeof import('@tensorflow/tfjs-backend-wasm');
  const simd = await tf.env().getAsync('WASM_HAS_SIMD_SUPPORT');
  // Threads would add in an order that depends on their timing.
  tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false);
  const folder = dirname(createRequire(import.meta.url).resolve(PACKAGES.wasm));
  module.setWasmPaths(`${folder}/`);
  await withoutProcessHandlers(() => select('wasm', 'wasm'));
  registerWasmKernels();
  const file = join(folder, simd === true ? 'tfjs-backend-wasm-simd.wasm' : 'tfjs-backend-wasm.wasm');
  const digest = createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 16);
  return `wasm-${module.version_wasm}-${simd === true ? 'simd' : 'plain'}-${digest}`;
}

/** Emscripten installs handlers that would take over the process's uncaught errors; they go again. */
async function withoutProcessHandlers(work: () => Promise<void>): Promise<void> {
  const events = ['uncaughtException', 'unhandledRejection'] as const;
  const before = events.map((event) => new Set<unknown>(process.listeners(event as 'uncaughtException')));
  await work();
  events.forEach((event, index) => {
    for (const listener of process.listeners(event as 'uncaughtException')) {
      if (before[index]?.has(listener) !== true) process.removeListener(event, listener);
    }
  });
}

function tensorflow(module: Record<string, unknown>): string {
  const version = (module['version'] ?? {}) as Record<string, string>;
  const native = (tf.backend() as unknown as { binding?: { TF_Version?: string } }).binding?.TF_Version ?? 'unknown';
  const processor = createHash('sha256').update(processorFlags()).digest('hex').slice(0, 16);
  const threads =
    process.env['TF_NUM_INTRAOP_THREADS'] ?? process.env['OMP_NUM_THREADS'] ?? String(availableParallelism());
  return `tensorflow-${native}-tfjs-node-${version['tfjs-node'] ?? version['tfjs'] ?? 'unknown'}-${cpus()[0]?.model ?? 'cpu'}-${processor}-threads${threads}`;
}

/** The instruction sets that TensorFlow chooses its kernels by; empty where the system does not tell. */
function processorFlags(): string {
  try {
    return /^(?:flags|Features)\s*:.*$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[0] ?? '';
  } catch {
    return '';
  }
}
