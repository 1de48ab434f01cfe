/**
 * Computes what a worker is asked for: gradients of slices and evaluations of chunks of the test set. It knows
 * no servers and no scheduler, and one call must end before the next begins.
 */
import type { Scalar, Tensor, Variable } from '@tensorflow/tfjs-core';
import type { RunConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { fullBitmap } from '../../shared/sparsity/bitmap.ts';
import { pushedSet } from '../../shared/sparsity/gradient-set.ts';
import { sliceIndices } from '../../shared/layout/slices.ts';
import { explainMissingKernel } from '../backend/missing-kernel.ts';
import { tidied } from '../backend/tidied.ts';
import type { Batch, Part } from '../data/dataset.ts';
import { readInitialValues } from '../model/initial-values.ts';
import { generatorAt, withSeed, withSeedSync } from '../model/seeded-random.ts';
import type { DrawPlace } from '../model/seeded-random.ts';
import type { ActivationPhase } from './activation-quantizer.ts';
import { disposeJob, prepareJob } from './job.ts';
import type { Job } from './job.ts';
import { recalibratedState } from './recalibration.ts';
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

export interface EngineOptions {
  readonly config: RunConfig;
  /** The model of the checkpoint to go on from, which units may have left; default: as the user's files build it. */
  readonly left?: ModelDescription | undefined;
}

/** Weights kept for evaluation. */
interface Kept {
  readonly set: WeightSet;
  readonly batches: number;
  /** Recalibrated, once the first chunk was asked for; null: those of the set. */
  states: readonly Tensor[] | null;
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
  #initial: { readonly weights: Float32Array; readonly state: Float32Array };
  readonly #kept = new Map<number, Kept>();
  readonly #transforms: readonly TimedTransform[];
  #layout: PackedLayout;
  #mask: Uint8Array;
  /** How gradients are packed where they cover more than the survivors; kept from step to step. */
  #pushed: { readonly set: Uint8Array; readonly layout: PackedLayout } | null = null;
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
    this.#mask = fullBitmap(this.#space.size);
    this.#transforms = weightTransforms(config);
    this.setWeights(this.#initial.weights, this.#initial.state, 0);
  }

  /** See prepareJob. */
  static async create({ config, left }: EngineOptions): Promise<Engine> {
    const { backend } = config.cluster;
    if (backend === 'auto') throw new WhittleError('INTERNAL', 'the backend is still auto: it is resolved at launch');
    const { model, seed, distillation } = config;
    const { source } = config.data;
    const activations = config.quantization?.activations ?? null;
    return new Engine(
      config,
      await prepareJob({ backend, source, model, seed, activations, distillation, left, rules: config.sparsity }),
    );
  }

  /**
   * Reads the initial values of a run that starts from a trained model. Only who sends them needs it: a run that has
   * its first checkpoint asks nobody for initial values. Errors: CHECKPOINT, UNSUPPORTED.
   */
  async loadInitial(): Promise<void> {
    const { initialize } = this.#config;
    if (initialize === undefined) return;
    this.#initial = await readInitialValues(this.#tf, initialize.from, this.description, this.#job.variables);
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
    this.#mask = bitmap?.slice() ?? fullBitmap(this.#space.size);
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
    tensors.push(...this.#stateTensors(state));
    this.#clock = clock;
    const before = this.#current;
    this.#current = { tensors, users: 1 };
    this.#state = state.slice();
    assignAll([...this.#parameters, ...this.#states], tensors);
    release(before);
  }

  /** How the gradient of `step` is packed: over the survivors, and dead elements where a rule looks at them. */
  #pushLayout(step: number): PackedLayout {
    const set = pushedSet(this.#mask, 0, this.#space.size, this.#config.sparsity, this.#space, step);
    if (set === this.#mask) return this.#layout;
    if (!this.#pushed || Buffer.compare(this.#pushed.set, set) !== 0)
      this.#pushed = { set, layout: new PackedLayout(this.#tf, this.#space, set) };
    return this.#pushed.layout;
  }

  /** @param step from 0 (which computes the batch of step 1), @param slice 0 .. slices-1. Throws NOT_FINITE where the loss is. */
  async gradient(step: number, slice: number): Promise<SliceResult> {
    const { seed, data, cluster } = this.#config;
    const { train } = this.#job.data;
    const layout = this.#pushLayout(step);
    const indices = sliceIndices(Math.max(1, step), slice, {
      batchSize: data.batchSize,
      slices: cluster.slices,
      examples: train.size,
      order: data.order,
      seed,
    });
    const examples = indices.length;
    if (examples === 0) {
      const gradient = new Float32Array(layout.size);
      return { gradient, loss: 0, examples, stateDelta: new Float32Array(this.#state.length) };
    }
    const place = { seed, step: Math.max(1, step), slice };
    const batch = await drawBatch(train, indices, place);
    // Where an earlier slice of this clock wrote its moving averages.
    if (this.#states.length > 0) assignAll(this.#states, this.#current.tensors.slice(this.#parameters.length));
    const result = withSeedSync(place, 'model', () => this.#compute(batch, examples, layout));
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
    const phase = { training: false, observe: 'largest', quantize: false } as const;
    for (let step = 1; step <= batches; step++) await this.#passBatch(step, phase);
    return concatValues(this.#tf, this.#states);
  }

  /**
   * Keeps the weights now set for evaluating `clock`, until `dropEvaluation`. The weights that a run ends with are
   * evaluated as they are exported: with recalibrated normalisation where the run file asks for it.
   * @param batches to recalibrate with; 0: as the moving averages are
   */
  keepForEvaluation(clock: number, batches = this.#batchesAt(clock)): void {
    if (this.#kept.has(clock)) this.dropEvaluation(clock);
    this.#current.users++;
    this.#kept.set(clock, { set: this.#current, batches, states: null });
  }

  dropEvaluation(clock: number): void {
    const kept = this.#kept.get(clock);
    if (kept !== undefined) release(kept.set);
    kept?.states?.forEach((tensor) => tensor.dispose());
    this.#kept.delete(clock);
  }

  /** Non-trainable state for the weights now set, its normalisation measured over the first `batches` batches of the run. */
  recalibrate(batches: number): Promise<Float32Array> {
    return this.#recalibrated(this.#current, this.#clock, batches);
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
    if (kept.batches > 0) kept.states ??= this.#stateTensors(await this.#recalibrated(kept.set, clock, kept.batches));
    const everything = [...this.#parameters, ...this.#states];
    assignAll(everything, kept.set.tensors);
    if (kept.states !== null) assignAll(this.#states, kept.states);
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
      throw explainMissingKernel(reason);
    } finally {
      assignAll(everything, this.#current.tensors);
    }
  }

  /** Frees every tensor; the engine is of no use afterwards. */
  dispose(): void {
    for (const clock of [...this.#kept.keys()]) this.dropEvaluation(clock);
    release(this.#current);
    disposeJob(this.#job);
  }

  get #tf() {
    return this.#job.backend.tf;
  }

  #batchesAt(clock: number): number {
    const { training, recalibrate } = this.#config;
    return clock === training.steps ? (recalibrate?.batches ?? 0) : 0;
  }

  #stateTensors(state: Float32Array): Tensor[] {
    let at = 0;
    return this.#states.map(({ shape, size }) => {
      // Copied: few values, and others need them as they were.
      const tensor = this.#tf.tensor(state.slice(at, at + size), shape);
      at += size;
      return tensor;
    });
  }

  async #recalibrated(set: WeightSet, clock: number, batches: number): Promise<Float32Array> {
    const tf = this.#tf;
    const everything = [...this.#parameters, ...this.#states];
    assignAll(everything, set.tensors);
    const before = concatValues(tf, this.#states);
    const { model } = this.#job.loaded;
    const phase = { training: true, observe: null, quantize: this.#quantizes(clock) } as const;
    const forward = (batch: number): Promise<void> => this.#passBatch(batch, phase);
    try {
      return await recalibratedState({ tf, model, states: this.#states, before, batches, forward });
    } catch (reason) {
      throw explainMissingKernel(reason);
    } finally {
      assignAll(everything, this.#current.tensors);
    }
  }

  /** A forward pass of the whole batch of a step, whatever the slices, for what it writes. */
  async #passBatch(step: number, phase: ActivationPhase & { readonly training: boolean }): Promise<void> {
    const { seed, data } = this.#config;
    const { train } = this.#job.data;
    const { batchSize, order } = data;
    const indices = sliceIndices(step, 0, { batchSize, slices: 1, examples: train.size, order, seed });
    const place = { seed, step, slice: 0 };
    const batch = await drawBatch(train, indices, place);
    withSeedSync(place, 'model', () => tidied(this.#tf, () => void this.#forward(batch, indices.length, phase)));
  }

  #compute(batch: Batch, examples: number, layout: PackedLayout): Omit<SliceResult, 'examples'> {
    const tf = this.#tf;
    const { feeds, objective, teacher } = this.#job;
    try {
      return tidied(tf, () => {
        const labels = feeds.labels(batch.labels);
        // Outside of what is differentiated: the teacher learns nothing.
        const advice = teacher?.logits(batch, examples);
        const { value, grads } = tf.variableGrads((): Scalar => {
          const phase = { training: true, observe: 'average', quantize: this.#quantizes(this.#clock) } as const;
          const outputs = this.#forward(batch, examples, phase);
          const own = objective.loss(labels, outputs);
          const loss = teacher === null || advice === undefined ? own : teacher.blend(own, outputs, advice);
          const penalty = objective.penalty();
          return penalty === null ? loss : tf.add(loss, penalty);
        }, this.#parameters as Variable[]);
        const gradient = layout.pack(
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
      throw explainMissingKernel(reason);
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
    const { feeds, loaded, activations, observer } = this.#job;
    if (observer !== null) observer.isOn = phase.observe === 'average';
    let inputs = feeds.inputs(batch.inputs, examples);
    if (activations !== null) {
      activations.phase = phase;
      inputs = activations.inputs(inputs);
    }
    const outputs = loaded.model.call(inputs, { training });
    return Array.isArray(outputs) ? outputs : [outputs];
  }
}

/** A source draws from its own stream, as Math.random and as its argument. */
function drawBatch(part: Part, indices: Int32Array, place: DrawPlace): Promise<Batch> {
  return withSeed(place, 'data', () => part.batch(indices, generatorAt(place, 'data')));
}
