/** The main thread's handle on the compute thread: an Engine whose methods return promises. */
import type { WhittleError } from '../../shared/errors.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import { startThread, ThreadCaller } from '../../shared/rpc/thread-calls.ts';
import type { ChunkResult, EngineOptions, SliceResult } from './engine.ts';

interface Created {
  readonly description: ModelDescription;
  readonly fingerprint: string;
  readonly numEvaluationChunks: number;
}

export class ComputeClient {
  readonly description: ModelDescription;
  readonly fingerprint: string;
  readonly numEvaluationChunks: number;
  readonly #thread: ThreadCaller;

  private constructor(thread: ThreadCaller, created: Created) {
    this.#thread = thread;
    this.description = created.description;
    this.fingerprint = created.fingerprint;
    this.numEvaluationChunks = created.numEvaluationChunks;
  }

  /**
   * Starts the thread and builds the engine in it. `onDeath` hears of a thread that ended by itself later on.
   * @throws what Engine.create throws; no thread is left then
   */
  static async create({
    onDeath,
    ...options
  }: EngineOptions & { readonly onDeath?: (error: WhittleError) => void }): Promise<ComputeClient> {
    const worker = startThread(import.meta.url, 'compute-thread', options satisfies EngineOptions);
    const thread = new ThreadCaller(worker, (error) => onDeath?.(error));
    try {
      return new ComputeClient(thread, await thread.call<Created>('create', null));
    } catch (reason) {
      await thread.terminate();
      throw reason;
    }
  }

  /** See Engine. */
  loadInitial(): Promise<void> {
    return this.#thread.call('loadInitial', null);
  }

  initialWeights(): Promise<Float32Array> {
    return this.#thread.call('initialWeights', null);
  }

  initialState(): Promise<Float32Array> {
    return this.#thread.call('initialState', null);
  }

  /** To be followed by setWeights of the same epoch. */
  setMask(bitmap: Uint8Array | null): Promise<void> {
    return this.#thread.call('setMask', { bitmap });
  }

  /**
   * The buffers move to the thread, so both arrays are of no use here afterwards. An array that is only a part
   * of its buffer is copied first.
   */
  setWeights(packed: Float32Array, state: Float32Array, clock: number): Promise<void> {
    const [values, states] = [whole(packed), whole(state)];
    return this.#thread.call('setWeights', { packed: values, state: states, clock }, [
      values.buffer as ArrayBuffer,
      states.buffer as ArrayBuffer,
    ]);
  }

  /** Runs before evaluation chunks asked for earlier. */
  gradient(step: number, slice: number): Promise<SliceResult> {
    return this.#thread.call('gradient', { step, slice });
  }

  /** Keeps the weights set by the setWeights before it. */
  keepForEvaluation(clock: number): Promise<void> {
    return this.#thread.call('keepForEvaluation', { clock });
  }

  evaluateChunk(clock: number, chunk: number): Promise<ChunkResult> {
    return this.#thread.call('evaluateChunk', { clock, chunk });
  }

  /** Takes effect after the chunks asked for before it. */
  dropEvaluation(clock: number): Promise<void> {
    return this.#thread.call('dropEvaluation', { clock });
  }

  /** Ends the thread; calls under way are rejected. */
  async terminate(): Promise<void> {
    await this.#thread.terminate();
  }
}

function whole(values: Float32Array): Float32Array {
  return values.byteLength === values.buffer.byteLength ? values : values.slice();
}
