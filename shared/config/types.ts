import type { RewindConfig } from './rewind.ts';
import type { ClusteringConfig } from './clustering.ts';
import type { DistillationConfig } from './distillation.ts';
import type { InitializeConfig } from './initialize.ts';
import type { RecalibrateConfig } from './recalibrate.ts';
import type { QuantizationConfig } from './quantization.ts';
import type { ShrinkConfig } from './shrink.ts';

/**
 * The effective run file: every key present, every default filled in, paths absolute, percentages and
 * epochs turned into steps. What roles read, what checkpoints keep, what `whittle config` prints.
 */
export interface RunConfig {
  readonly name: string;
  /** Whole number, 0 .. 2^31-1. */
  readonly seed: number;
  /** A built-in's name, or the absolute path of a module. */
  readonly model: string;
  readonly data: DataConfig;
  readonly cluster: ClusterConfig;
  readonly consistency: {
    readonly mode: 'bsp' | 'ssp' | 'asp';
    readonly staleness: number;
    readonly backupWorkers: number;
  };
  readonly training: TrainingConfig;
  readonly sparsity: readonly SparsityRule[];
  /** Absent: none. Ascending by `at`. */
  readonly rewind?: readonly RewindConfig[];
  /** Absent: units that die stay in the model, as zeros. */
  readonly shrink?: ShrinkConfig;
  readonly initialize?: InitializeConfig;
  readonly distillation?: DistillationConfig;
  readonly clustering?: ClusteringConfig;
  readonly recalibrate?: RecalibrateConfig;
  /** Quantization-aware training; absent: none. */
  readonly quantization?: QuantizationConfig;
  readonly kernels: { readonly sparseBelow: number };
  readonly wire: { readonly push: WireFormat; readonly pull: WireFormat };
  readonly checkpoint: { readonly every: number; readonly keep: number };
  readonly coordination: CoordinationConfig;
  readonly security: SecurityConfig;
  /** Fault script, one line each (see faults.ts); absent: none. */
  readonly faults?: readonly string[];
  /** Roles write down what they do, for the checker of the invariants; absent: no. */
  readonly history?: boolean;
}

/** `embedded`: files in the run directory. */
export type CoordinationConfig = 'embedded' | { readonly etcd: EtcdConfig };

export interface EtcdConfig {
  /** `http://host:port` or `https://host:port`, all alike. */
  readonly endpoints: readonly string[];
  /** Keys of a run begin with `<prefix>/<run id>/`. */
  readonly prefix: string;
  readonly username?: string;
  /** Missing where it comes from the environment. */
  readonly password?: string;
  /** Absolute paths of PEM files. */
  readonly certificates?: { readonly ca: string; readonly certificate?: string; readonly key?: string };
  readonly leaseSeconds: number;
  readonly deadlineSeconds: number;
}

export interface SecurityConfig {
  /** Absolute path of the folder that `whittle certs` made; null: plain text, on loopback only. */
  readonly certificates: string | null;
  /** Listen off loopback also without certificates. */
  readonly insecure: boolean;
}

export type WireFormat = 'float32' | 'bfloat16' | 'float16' | 'int8';

export interface DataConfig {
  /** `mnist`, `fashion-mnist`, `{ idx: DIR }`, `{ csv: ... }`, or the absolute path of a module. */
  readonly source: string | { readonly idx: string } | { readonly csv: CsvSource };
  /** Examples in a global batch. */
  readonly batchSize: number;
  readonly order: 'shuffled' | 'sequential';
}

export interface CsvSource {
  /** Absolute path of the training file. */
  readonly train: string;
  readonly test: string | null;
  /** Column of the label: a header name or a zero-based index; -1: the last column, the default. */
  readonly label: string | number;
  readonly header: boolean;
  /** Class ids (`classes`) or numbers (`numbers`). */
  readonly labels: 'classes' | 'numbers';
}

export interface ClusterConfig {
  readonly servers: number;
  readonly workers: { readonly min: number; readonly max: number };
  /** Resolved at launch; `auto` never reaches a role. */
  readonly backend: BackendKind | 'auto';
  readonly replication: 0;
  /** How long servers and workers go on without a scheduler. */
  readonly orphanAfterSeconds: number;
  /** Slices a step's global batch is cut into; default: workers.max. Kept by checkpoints. */
  readonly slices: number;
}
export type BackendKind = 'tensorflow-gpu' | 'tensorflow' | 'wasm' | 'cpu';

export interface TrainingConfig {
  readonly steps: number;
  readonly optimizer: OptimizerConfig;
  readonly learningRateSchedule: LearningRateSchedule;
  readonly decay: DecayConfig;
  /** Largest global L2 norm of the gradient, or null for no clipping. */
  readonly clipNorm: number | null;
  /** Steps between evaluations on the test set; 0: only at the end. */
  readonly evaluateEvery: number;
}

export type OptimizerConfig =
  | { readonly kind: 'sgd'; readonly learningRate: number; readonly momentum: number; readonly nesterov: boolean }
  | {
      readonly kind: 'adam';
      readonly learningRate: number;
      readonly beta1: number;
      readonly beta2: number;
      readonly epsilon: number;
    }
  | {
      readonly kind: 'rmsprop';
      readonly learningRate: number;
      readonly rho: number;
      readonly epsilon: number;
      readonly momentum: number;
      readonly centered: boolean;
    }
  | {
      readonly kind: 'adagrad';
      readonly learningRate: number;
      readonly epsilon: number;
      readonly initialAccumulator: number;
    };

/** Multiplies the optimizer's learning rate, or a coefficient of the decay. `warmupSteps`: linear from 0 before it, in every kind. */
export type LearningRateSchedule =
  | { readonly kind: 'constant'; readonly warmupSteps: number }
  | { readonly kind: 'step'; readonly every: number; readonly factor: number; readonly warmupSteps: number }
  | { readonly kind: 'cosine'; readonly finalFactor: number; readonly warmupSteps: number }
  | { readonly kind: 'linear'; readonly finalFactor: number; readonly warmupSteps: number };

export interface DecayConfig {
  /** Decoupled: w -= lr * weightDecay * w (Loshchilov & Hutter 2019). */
  readonly weightDecay: number;
  /** Added to the gradient: g += l2 * w. */
  readonly l2: number;
  /** Proximal: soft threshold by lr * l1 after the update. Zeros stay survivors. */
  readonly l1: number;
  /** Proximal: shrinks the norm of all weights into an output unit; absent: 0. */
  readonly groupLasso?: number;
  /** Decoupled, on dead latent weights under straight-through; absent: 0. */
  readonly latent?: number;
  /** Glob of parameter names it applies to. */
  readonly match: string;
  /** Factors of the coefficients by step; absent: 1. */
  readonly schedules?: Readonly<
    Partial<Record<'weightDecay' | 'l2' | 'l1' | 'groupLasso' | 'latent', LearningRateSchedule>>
  >;
}

export interface SparsityRule {
  /** Glob of parameter names; null: the prunable parameters (kernels of dense and convolution layers). */
  readonly match: string | null;
  readonly schedule: SparsitySchedule;
  readonly criterion: CriterionName;
  readonly granularity: GranularityConfig;
  readonly scope: 'global' | 'layer' | 'erk' | 'er';
  /** Parameters that have a final sparsity of their own, ranked within themselves; the first glob that matches holds. */
  readonly overrides?: readonly SparsityOverride[];
  readonly regrowth: 'none' | RegrowthConfig;
  /** Dead weights keep learning from the gradient of their effective weight, and may come back until `endStep`. */
  readonly straightThrough?: boolean;
  readonly protect: { readonly minSurvivorsPerParameter: number };
}

export interface SparsityOverride {
  readonly match: string;
  /** Takes the place of the schedule's final sparsity; its values in between are scaled alike. */
  readonly finalSparsity: number;
}

export type CriterionName =
  | 'magnitude'
  | 'normalizedMagnitude'
  | 'gradient'
  | 'saliency'
  | 'movement'
  | 'random'
  | 'fisher'
  | 'snip'
  | 'lamp'
  | 'activation';

/** What dies together. Blocks are [rows, columns] of the kernel as a matrix of inputs by outputs. */
export type GranularityConfig =
  | 'element'
  | { readonly block: readonly [rows: number, columns: number]; readonly norm: GroupNorm }
  | { readonly nm: readonly [n: number, m: number] }
  | { readonly neuron: { readonly norm: GroupNorm } }
  | { readonly filter: { readonly norm: GroupNorm } };

/** How the scores of a group's elements become one: sum of |s|, root of the sum of squares, or mean. */
export type GroupNorm = 1 | 2 | 'mean';

export interface RegrowthConfig {
  readonly kind: 'set' | 'rigl';
  /** Share of the survivors that is dropped and grown at the first update; falls to 0 at `endStep` by half a cosine. */
  readonly fraction: number;
  /** Criterion of the first update, which only removes. */
  readonly initial: 'random' | 'magnitude' | 'snip';
}

export interface ScheduleSpan {
  readonly beginStep: number;
  readonly endStep: number;
  readonly frequency: number;
}

export interface RisingSchedule extends ScheduleSpan {
  readonly initialSparsity: number;
  readonly finalSparsity: number;
}

export type SparsitySchedule =
  | (RisingSchedule & { readonly kind: 'polynomial'; readonly power: number })
  | (RisingSchedule & { readonly kind: 'linear' })
  | (RisingSchedule & { readonly kind: 'exponential' })
  | (RisingSchedule & { readonly kind: 'cosine' })
  | (ScheduleSpan & { readonly kind: 'constant'; readonly finalSparsity: number })
  /** One update, at beginStep = endStep. */
  | (ScheduleSpan & { readonly kind: 'oneShot'; readonly finalSparsity: number })
  /** One update at each of `steps`, ascending; beginStep and endStep are the first and the last of them. */
  | (ScheduleSpan & {
      readonly kind: 'steps';
      readonly finalSparsity: number;
      readonly steps: readonly { readonly step: number; readonly sparsity: number }[];
    })
  /** AC/DC (Peste et al. 2021): from beginStep sparse and dense phases by turns, sparse from endStep on. */
  | (ScheduleSpan & {
      readonly kind: 'cyclic';
      readonly finalSparsity: number;
      readonly sparseSteps: number;
      readonly denseSteps: number;
    });
