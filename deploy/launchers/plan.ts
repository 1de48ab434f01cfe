import type { QuantizationConfig } from '../../shared/config/quantization.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import { type Parameter, ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { allUpdateSteps, matchedParameters, matches, targetSparsityAt } from '../../shared/sparsity/rules.ts';
import { sparsityAt } from '../../shared/sparsity/schedule.ts';

/** Everything `launch` shows before it starts, and `launch --dry-run --json` prints. */
export interface RunPlan {
  readonly runId: string;
  readonly runDirectory: string;
  readonly launcher: string;
  readonly name: string;
  readonly seed: number;
  readonly model: string;
  readonly data: string;
  readonly servers: number;
  readonly workers: { readonly min: number; readonly max: number };
  readonly backend: string;
  /** Examples of each slice of a step's global batch. */
  readonly sliceExamples: readonly number[];
  readonly batchSize: number;
  readonly steps: number;
  readonly epochs: number;
  readonly trainExamples: number;
  readonly testExamples: number;
  readonly evaluateEvery: number;
  readonly parameters: number;
  /** Elements that at least one sparsity rule matches. */
  readonly prunable: number;
  readonly layers: readonly PlannedLayer[];
  readonly sparsity: readonly PlannedUpdate[];
  /** Quantization-aware training; absent: none. */
  readonly quantization?: QuantizationConfig;
  readonly bytesPerStep: { readonly dense: number; readonly final: number };
  readonly checkpoint: { readonly every: number; readonly keep: number; readonly folder: string };
  readonly notes: readonly string[];
}

export interface PlannedLayer {
  readonly name: string;
  readonly shape: readonly number[];
  readonly kind: string;
  readonly size: number;
  /** Indices of the sparsity rules that match it. */
  readonly rules: readonly number[];
}

export interface PlannedUpdate {
  readonly step: number;
  /** Target of each rule in force after this step, by rule. */
  readonly targets: readonly number[];
  /** Removed / prunable, and elements that travel (survivors and never-pruned); expected ones where rules overlap. */
  readonly sparsity: number;
  readonly packed: number;
}

export interface PlanInput {
  readonly config: RunConfig;
  readonly description: ModelDescription;
  readonly runId: string;
  readonly runDirectory: string;
  readonly launcher: string;
  readonly notes: readonly string[];
}

/** The plan of a run; pure arithmetic. */
export function planRun(input: PlanInput): RunPlan {
  const { config, description } = input;
  const space = ParameterSpace.of(description.parameters);
  const rules = config.sparsity;
  const matched = rules.map((rule) => matches(rule, space).map(({ name }) => name));
  const prunable = sizeOf(matchedParameters(rules, space));
  const sparsity = allUpdateSteps(rules, config.training.steps).map((step) => {
    const targets = rules.map((rule) => sparsityAt(rule.schedule, step));
    const removed = Math.round(targetSparsityAt(rules, space, step) * prunable);
    return { step, targets, sparsity: prunable === 0 ? 0 : removed / prunable, packed: space.size - removed };
  });
  const { slices, workers, servers, backend } = config.cluster;
  const batchSize = config.data.batchSize;
  return {
    runId: input.runId,
    runDirectory: input.runDirectory,
    launcher: input.launcher,
    name: config.name,
    seed: config.seed,
    model: config.model,
    data: describeSource(config.data.source),
    servers,
    workers,
    backend,
    sliceExamples: sliceExamples(batchSize, slices),
    batchSize,
    steps: config.training.steps,
    epochs: description.trainExamples === 0 ? 0 : (config.training.steps * batchSize) / description.trainExamples,
    trainExamples: description.trainExamples,
    testExamples: description.testExamples,
    evaluateEvery: config.training.evaluateEvery,
    parameters: space.size,
    prunable,
    layers: space.parameters.map(({ name, shape, layerKind, size }) => ({
      name,
      shape,
      kind: layerKind,
      size,
      rules: matched.flatMap((each, r) => (each.includes(name) ? [r] : [])),
    })),
    sparsity,
    ...(config.quantization === undefined ? {} : { quantization: config.quantization }),
    bytesPerStep: {
      dense: bytesPerStep(config, space.size),
      final: bytesPerStep(config, sparsity.at(-1)?.packed ?? space.size),
    },
    checkpoint: { ...config.checkpoint, folder: `${input.runDirectory}/checkpoints` },
    notes: input.notes,
  };
}

/**
 * Bytes of values that a step moves when so many elements are packed: value size x packed elements x
 * (slices pushed + workers answered), design section 6. Masks and control traffic come on top.
 */
export function bytesPerStep(config: RunConfig, packed: number): number {
  const size = { float32: 4, bfloat16: 2, float16: 2, int8: 1 } as const;
  const { slices, workers } = config.cluster;
  // A worker beyond the slices is idle: it pushes nothing and is answered nothing.
  return packed * (size[config.wire.push] * slices + size[config.wire.pull] * Math.min(workers.max, slices));
}

/** Slice i of k holds positions floor(iB/k) .. floor((i+1)B/k)-1 of the global batch. */
export function sliceExamples(batchSize: number, slices: number): number[] {
  return Array.from(
    { length: slices },
    (_, i) => Math.floor(((i + 1) * batchSize) / slices) - Math.floor((i * batchSize) / slices),
  );
}

/** At most `count` of the updates, evenly spread, the first and the last among them. */
export function shortenUpdates<T>(updates: readonly T[], count: number): T[] {
  if (updates.length <= count) return [...updates];
  const picked = Array.from({ length: count }, (_, i) => Math.round((i * (updates.length - 1)) / (count - 1)));
  return picked.flatMap((i) => updates[i] ?? []);
}

function describeSource(source: RunConfig['data']['source']): string {
  if (typeof source === 'string') return source;
  return 'idx' in source ? `idx files in ${source.idx}` : `csv ${source.csv.train}`;
}

function sizeOf(parameters: readonly Parameter[]): number {
  return parameters.reduce((sum, each) => sum + each.size, 0);
}
