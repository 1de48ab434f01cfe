/**
 * Computes what a worker is asked for: gradients of slices and evaluations of chunks of the test set. It knows
 * no servers and no scheduler, and one call must end before the next begins.
 */
import type { Scalar, Tensor, Variable } from '@tensorflow/tfjs-core';
import type { RunConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { sliceIndices } from '../../shared/layout/slices.ts';
import type { Tf } from '../backend/tf.ts';
import type { Batch, Part } from '../data/dataset.ts';
import { disposeVariables } from '../model/describe-model.ts';
import { generatorAt, withSeed, withSeedSync } from '../model/seeded-random.ts';
import type { DrawPlace } from '../model/seeded-random.ts';
import type { ActivationPhase } from './activation-quantizer.ts';
import { prepareJob } from './job.ts';
import type { Job } from './job.ts';
import { PackedLayout, assignAll, concatValues, release, viewOfTensor } from './weight-sets.ts';
import type { WeightSet } from './weight-sets.ts';
import { transformAt, weightTransforms } from './weight-transforms.ts';
import type { TimedTransform } from './weight-transforms.ts';

export interface SliceResult {
  /** Packed over the survivors in flat order; gradient of the mean loss over the slice. */
  readonly gradient: Float32Array;
  /** Mean over the slice, regularizers included. */
  readonly loss: number;
  readonly examples: number;
  /** Non-trainable variables after the forward pass minus before, end to end in the description's order. */
  readonly stateDelta: Float32Array;
}

export interface ChunkResult {
  /** Null where the labels are not classes. */
  readonly correct: number | null;
  /** Sum over the chunk of the loss without regularizers. */
  readonly lossSum: number;
  readonly examples: number;
}

/** Examples in an evaluation chunk; fixed, because losses are added chunk by chunk. */
export const EVALUATION_CHUNK = 500;

export class Engine {
  readonly description: ModelDescription;
  /** Of the backend; equal ones compute equal bits. */
  readonly fingerprint: string;
  readonly numEvaluationChunks: number;
  readonly #job: Job;
  readonly #config: RunConfig;
  readonly #space: ParameterSpace;
  readonly #parameters: readonly Variable[];
  readonly #states: readonly Variable[];
  readonly #initial: { readonly weights: Float32Array; readonly state: Float32Array };
  readonly #kept = new Map<number, WeightSet>();
  readonly #transforms: readonly TimedTransform[];
  #layout: PackedLayout;
  /** Parameters, then states. */
  #current: WeightSet = { tensors: [], users: 1 };
  #state: Float32Array;
  /** Of the current weights. */
  #clock = 0;

  private constructor(config: RunConfig, job: Job) {
    const { tf } = job.backend;
    this.#job = job;
    this.#config = config;
    this.description = job.description;
    this.fingerprint = job.backend.fingerprint;
    this.numEvaluationChunks = Math.ceil(job.description.testExamples / EVALUATION_CHUNK);
    this.#space = ParameterSpace.of(job.description.parameters);
    this.#parameters = job.variables.parameters.map((variable) => variable.read() as Variable);
    this.#states = job.variables.states.map((variable) => variable.read() as Variable);
    this.#initial = { weights: concatValues(tf, this.#parameters), state: concatValues(tf, this.#states) };
    this.#state = this.#initial.state;
    this.#layout = new PackedLayout(tf, this.#space, null);
    this.#transforms = weightTransforms(config);
    this.setWeights(this.#initial.weights, this.#initial.state, 0);
  }

  /** @throws MODEL, DATA or UNSUPPORTED */
  static async create({ config }: { readonly config: RunConfig }): Promise<Engine> {
    const { backend } = config.cluster;
    if (backend === 'auto') throw new WhittleError('INTERNAL', 'the backend is still auto: it is resolved at launch');
    const { source } = config.data;
    const activations = config.quantization?.activations ?? null;
    const { model, seed } = config;
    return new Engine(config, await prepareJob({ backend, source, model, seed, activations }));
  }

  /** Dense, in flat order. */
  initialWeights(): Float32Array {
    return this.#initial.weights.slice();
  }

  initialState(): Float32Array {
    return this.#initial.state.slice();
  }

  /** The mask of the whole parameter space, bit 1 = survivor, or null for all; holds from the next setWeights on. */
  setMask(bitmap: Uint8Array | null): void {
    this.#layout = new PackedLayout(this.#tf, this.#space, bitmap);
  }

  /**
   * Weights packed over the mask's survivors and non-trainable state, both of `clock`, which decides what the weights
   * are transformed by; without it by all that the run file asks for, as at the end of a run.
   */
  setWeights(packed: Float32Array, state: Float32Array, clock = Infinity): void {
    const tf = this.#tf;
    if (state.length !== this.#initial.state.length) {
      throw new WhittleError('INTERNAL', `${state.length} state values for ${this.#initial.state.length}`);
    }
    const tensors = this.#layout.unpack(tf, packed, transformAt(this.#transforms, clock));
    let at = 0;
    for (const variable of this.#states) {
      // Copied: few values, and the delta below needs them as they were.
      tensors.push(tf.tensor(state.slice(at, at + variable.size), variable.shape));
      at += variable.size;
    }
    this.#clock = clock;
    const before = this.#current;
    this.#current = { tensors, users: 1 };
    this.#state = state.slice();
    assignAll([...this.#parameters, ...this.#states], tensors);
    release(before);
  }

  /** @param step from 1, @param slice 0 .. slices-1. Throws NOT_FINITE where the loss is. */
  async gradient(step: number, slice: number): Promise<SliceResult> {
    const { seed, data, cluster } = this.#config;
    const { train } = this.#job.data;
    const indices = sliceIndices(step, slice, {
      batchSize: data.batchSize,
      slices: cluster.slices,
      examples: train.size,
      order: data.order,
      seed,
    });
    const examples = indices.length;
    if (examples === 0) {
      const gradient = new Float32Array(this.#layout.size);
      return { gradient, loss: 0, examples, stateDelta: new Float32Array(this.#state.length) };
    }
    const place = { seed, step, slice };
    const batch = await drawBatch(train, indices, place);
    // Where an earlier slice of this clock wrote its moving averages.
    if (this.#states.length > 0) assignAll(this.#states, this.#current.tensors.slice(this.#parameters.length));
    const result = withSeedSync(place, 'model', () => this.#compute(batch, examples));
    if (!Number.isFinite(result.loss)) {
      throw new WhittleError(
        'NOT_FINITE',
        `the loss of step ${step}, slice ${slice} is ${result.loss}: lower training.optimizer.learningRate, set ` +
          'training.clipNorm, or look for bad values in the data',
        { data: { step, slice, loss: result.loss } },
      );
    }
    return { ...result, examples };
  }

  /**
   * Widens the ranges of activations to all that they are over the first `batches` global batches of the training data,
   * with the weights and state now set and nothing quantized; the whole state in the description's order.
   */
  async calibrate(batches: number): Promise<Float32Array> {
    const { seed, data } = this.#config;
    const { train } = this.#job.data;
    const tf = this.#tf;
    for (let step = 1; step <= batches; step++) {
      const options = { batchSize: data.batchSize, slices: 1, examples: train.size, order: data.order, seed };
      const indices = sliceIndices(step, 0, options);
      const batch = await drawBatch(train, indices, { seed, step, slice: 0 });
      tidied(tf, () => this.#forward(batch, indices.length, { training: false, observe: 'largest', quantize: false }));
    }
    return concatValues(tf, this.#states);
  }

  /** Keeps the weights now set for evaluating `clock`, until `dropEvaluation`. */
  keepForEvaluation(clock: number): void {
    if (this.#kept.has(clock)) this.dropEvaluation(clock);
    this.#current.users++;
    this.#kept.set(clock, this.#current);
  }

  dropEvaluation(clock: number): void {
    const kept = this.#kept.get(clock);
    if (kept !== undefined) release(kept);
    this.#kept.delete(clock);
  }

  /** @param chunk 0 .. numEvaluationChunks-1, of a clock that was kept */
  async evaluateChunk(clock: number, chunk: number): Promise<ChunkResult> {
    const kept = this.#kept.get(clock);
    const { test } = this.#job.data;
    if (kept === undefined || test === null || chunk < 0 || chunk >= this.numEvaluationChunks) {
      throw new WhittleError(
        'INTERNAL',
        `chunk ${chunk} of clock ${clock} cannot be evaluated: its weights were not kept`,
      );
    }
    const start = chunk * EVALUATION_CHUNK;
    const examples = Math.min(EVALUATION_CHUNK, test.size - start);
    const indices = Int32Array.from({ length: examples }, (_, i) => start + i);
    const batch = await drawBatch(test, indices, { seed: this.#config.seed, step: 0, slice: chunk });
    const everything = [...this.#parameters, ...this.#states];
    assignAll(everything, kept.tensors);
    try {
      return tidied(this.#tf, () => {
        const { feeds, objective } = this.#job;
        const labels = feeds.labels(batch.labels);
        const outputs = this.#forward(batch, examples, {
          training: false,
          observe: null,
          quantize: this.#quantizes(clock),
        });
        const lossSum = (objective.loss(labels, outputs).dataSync()[0] as number) * examples;
        return { correct: objective.correct(labels, outputs), lossSum, examples };
      });
    } catch (reason) {
      throw explain(reason);
    } finally {
      assignAll(everything, this.#current.tensors);
    }
  }

  /** Frees every tensor; the engine is of no use afterwards. */
  dispose(): void {
    for (const clock of [...this.#kept.keys()]) this.dropEvaluation(clock);
    release(this.#current);
    disposeVariables(this.#job.variables);
  }

  get #tf() {
    return this.#job.backend.tf;
  }

  #compute(batch: Batch, examples: number): Omit<SliceResult, 'examples'> {
    const tf = this.#tf;
    const { feeds, objective } = this.#job;
    try {
      return tidied(tf, () => {
        const labels = feeds.labels(batch.labels);
        const { value, grads } = tf.variableGrads((): Scalar => {
          const phase = { observe: 'average', quantize: this.#quantizes(this.#clock) } as const;
          const loss = objective.loss(labels, this.#forward(batch, examples, { training: true, ...phase }));
          const penalty = objective.penalty();
          return penalty === null ? loss : tf.add(loss, penalty);
        }, this.#parameters as Variable[]);
        const gradient = this.#layout.pack(
          this.#parameters.map(({ name }) => {
            const dense = grads[name];
            return dense === undefined ? null : viewOfTensor(tf, dense);
          }),
        );
        const stateDelta = concatValues(tf, this.#states);
        for (let i = 0; i < stateDelta.length; i++)
          stateDelta[i] = (stateDelta[i] as number) - (this.#state[i] as number);
        return { gradient, loss: value.dataSync()[0] as number, stateDelta };
      });
    } catch (reason) {
      throw explain(reason);
    }
  }

  /** Whether activations are quantized with the weights of `clock`. */
  #quantizes(clock: number): boolean {
    return clock >= (this.#config.quantization?.beginStep ?? Infinity);
  }

  #forward(
    batch: Batch,
    examples: number,
    { training, ...phase }: ActivationPhase & { readonly training: boolean },
  ): Tensor[] {
    const { feeds, loaded, activations } = this.#job;
    let inputs = feeds.inputs(batch.inputs, examples);
    if (activations !== null) {
      activations.phase = phase;
      inputs = activations.inputs(inputs);
    }
    const outputs = loaded.model.call(inputs, { training });
    return Array.isArray(outputs) ? outputs : [outputs];
  }
}

/** tf.tidy for results without tensors; tf.tidy itself would search every element of an array for them. */
function tidied<T>(tf: Tf, work: () => T): T {
  let result: { readonly value: T } | undefined;
  tf.tidy(() => {
    result = { value: work() };
  });
  return (result as unknown as { readonly value: T }).value;
}

/** A source draws from its own stream, as Math.random and as its argument. */
function drawBatch(part: Part, indices: Int32Array, place: DrawPlace): Promise<Batch> {
  return withSeed(place, 'data', () => part.batch(indices, generatorAt(place, 'data')));
}

/** TensorFlow.js's message for a missing kernel speaks to its own developers. */
function explain(reason: unknown): unknown {
  const message = reason instanceof Error ? reason.message : '';
  const match = /Kernel '(\w+)' not registered for backend '(\w+)'/.exec(message);
  if (match === null) return reason;
  return new WhittleError(
    'UNSUPPORTED',
    `the ${match[2]} backend has no kernel ${match[1]}, which the model or its gradient needs: use another layer, or ` +
      'set cluster.backend to tensorflow',
    { cause: reason, data: { kernel: match[1], backend: match[2] } },
  );
}
