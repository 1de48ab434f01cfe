import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { type MessagePort, type TransferListItem, Worker } from 'node:worker_threads';
import { type ErrorCode, WhittleError } from '../errors.ts';

/**
 * Starts the worker thread whose code lies beside the caller's, compiled or as source. A TypeScript loader's
 * hooks do not reach worker threads, so from sources the thread registers its own first.
 */
export function startThread(callerUrl: string, name: string, workerData: unknown): Worker {
  if (!callerUrl.endsWith('.ts')) return new Worker(new URL(`./${name}.js`, callerUrl), { workerData });
  const code = new URL(`./${name}.ts`, callerUrl).href;
  const tsx = pathToFileURL(createRequire(callerUrl).resolve('tsx/package.json'));
  const bootstrap = ['dist/cjs/api/index.mjs', 'dist/esm/api/index.mjs']
    .map((path) => `(await import(${JSON.stringify(new URL(path, tsx).href)})).register();`)
    .concat(`await import(${JSON.stringify(code)});`)
    .join(' ');
  return new Worker(`(async () => { ${bootstrap} })()`, { eval: true, workerData });
}

interface Call {
  readonly id: number;
  readonly method: string;
  readonly argument: unknown;
}
interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: PortableError;
}
interface Event {
  readonly event: string;
  readonly payload: unknown;
}
interface PortableError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly stack: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** Caller's side of calls into a worker thread: promises for calls, handlers for events, one reason for its end. */
export class ThreadCaller {
  readonly #worker: Worker;
  readonly #pending = new Map<number, { resolve: (value: unknown) => void; reject: (reason: unknown) => void }>();
  readonly #handlers = new Map<string, (payload: never) => void>();
  #nextId = 1;
  #ended: WhittleError | null = null;

  /** `onDeath` hears of a thread that ended without being asked to. */
  constructor(worker: Worker, onDeath: (error: WhittleError) => void) {
    this.#worker = worker;
    worker.on('message', (message: Answer | Event) => this.#receive(message));
    const died = (error: WhittleError): void => {
      if (this.#ended) return;
      this.#end(error);
      onDeath(error);
    };
    worker.on('error', (error) => died(WhittleError.from(error)));
    worker.on('exit', (code) => died(new WhittleError('INTERNAL', `a thread ended with code ${code}`)));
  }

  call<T>(method: string, argument: unknown, transfer: readonly TransferListItem[] = []): Promise<T> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise<T>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.#worker.postMessage({ id, method, argument } satisfies Call, transfer);
    });
  }

  on<T>(event: string, handler: (payload: T) => void): void {
    this.#handlers.set(event, handler);
  }

  /** Ends the thread; calls under way are rejected. */
  async terminate(): Promise<void> {
    this.#end(new WhittleError('INTERNAL', 'the thread was ended'));
    await this.#worker.terminate();
  }

  #receive(message: Answer | Event): void {
    if ('event' in message) {
      const handler = this.#handlers.get(message.event) as ((payload: unknown) => void) | undefined;
      handler?.(message.payload);
      return;
    }
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (message.error) pending?.reject(fromPortable(message.error));
    else pending?.resolve(message.result);
  }

  #end(error: WhittleError): void {
    this.#ended ??= error;
    for (const { reject } of this.#pending.values()) reject(this.#ended);
    this.#pending.clear();
  }
}

/** A result whose buffers move to the caller instead of being copied. */
export class Transferred<T> {
  readonly value: T;
  readonly transfer: readonly TransferListItem[];
  constructor(value: T, transfer: readonly TransferListItem[]) {
    this.value = value;
    this.transfer = transfer;
  }
}

export type ThreadMethods = Readonly<Record<string, (argument: never) => unknown>>;

/** Thread's side: answers calls by name; errors cross with their code, data and stack. */
export function serveThread(port: MessagePort, methods: ThreadMethods): void {
  port.on('message', (call: Call) => {
    void answer(port, methods, call);
  });
}

/** Thread's side: tells the caller of something it did not ask for. */
export function emitFromThread(
  port: MessagePort,
  event: string,
  payload: unknown,
  transfer: readonly TransferListItem[] = [],
): void {
  port.postMessage({ event, payload } satisfies Event, transfer);
}

async function answer(port: MessagePort, methods: ThreadMethods, { id, method, argument }: Call): Promise<void> {
  try {
    const run = methods[method] as ((argument: unknown) => unknown) | undefined;
    if (!run) throw new WhittleError('INTERNAL', `the thread has no method "${method}"`);
    const result = await run(argument);
    if (result instanceof Transferred) {
      port.postMessage({ id, result: result.value as unknown } satisfies Answer, result.transfer);
    } else {
      port.postMessage({ id, result } satisfies Answer);
    }
  } catch (reason) {
    port.postMessage({ id, error: toPortable(reason) } satisfies Answer);
  }
}

function toPortable(reason: unknown): PortableError {
  const error = WhittleError.from(reason);
  const origin = error.cause instanceof Error ? error.cause : error;
  let data: Readonly<Record<string, unknown>> = {};
  try {
    data = structuredClone(error.data);
  } catch {
    // Data that cannot be cloned stays behind; code, message and stack say what happened.
  }
  return { code: error.code, message: error.rawMessage, stack: origin.stack ?? '', data };
}

function fromPortable(portable: PortableError): WhittleError {
  const error = new WhittleError(portable.code, portable.message, { data: portable.data });
  error.stack = portable.stack;
  return error;
}
