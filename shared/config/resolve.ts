import type { ParameterSpec } from '../layout/model-description.ts';
import { matchesGlob } from '../sparsity/glob.ts';
import { checkRewind, resolveRewind } from './resolve-rewind.ts';
import { checkShrink, resolveShrink } from './resolve-shrink.ts';
import { checkClustering, resolveClustering } from './resolve-clustering.ts';
import { checkQuantization, resolveQuantization } from './resolve-quantization.ts';
import { decayWarnings, resolveDecay } from './decay.ts';
import { checkGlob, checkRules, epochSteps, numSteps, resolveRules } from './resolve-sparsity.ts';
import type { RunFile } from './run-file.ts';
import type { BackendKind, OptimizerConfig, RunConfig } from './types.ts';
import { workerRange } from './schema.ts';

/** What only the model, the data and the machine know. */
export interface JobFacts {
  readonly trainExamples: number;
  /** 0 where the data has no test part. */
  readonly testExamples: number;
  /** What `backend: auto` becomes. */
  readonly backend: BackendKind;
  /** All parameters in model order; without them, globs are not checked. */
  readonly parameterNames?: readonly string[];
  /** The parameters that a rule without `match` covers. */
  readonly prunableNames?: readonly string[];
  /** All parameters with their shapes; without them, granularities are not checked. */
  readonly parameters?: readonly ParameterSpec[];
}

/** torch.optim.AdamW's default. */
const ADAMW_WEIGHT_DECAY = 0.01;

/** The effective run file. Throws RUN_FILE, all problems at once, where the file does not fit the facts. */
export function resolveRunConfig(runFile: RunFile, facts: JobFacts): RunConfig {
  const { document } = runFile;
  const { cluster, consistency, training, kernels, wire, checkpoint, recalibrate } = document;
  const { initialize, distillation } = runFile;
  const problems = [
    ...checkRules(document, facts),
    ...checkClustering(document, facts),
    ...checkQuantization(document, facts),
    ...checkRewind(document, facts),
    ...checkShrink(document, facts),
    ...checkGlob(training.decay.match, ['training', 'decay', 'match'], facts.parameterNames),
  ];
  if (problems.length > 0) throw runFile.source.error(problems);
  const clustering = resolveClustering(document, facts.trainExamples);
  return {
    name: runFile.name,
    seed: runFile.seed,
    model: runFile.model,
    data: runFile.data,
    cluster: {
      servers: cluster.servers,
      workers: workerRange(cluster.workers),
      backend: runFile.backend === 'auto' ? facts.backend : runFile.backend,
      replication: cluster.replication,
      orphanAfterSeconds: cluster.orphanAfterSeconds,
      slices: cluster.slices ?? workerRange(cluster.workers).max,
    },
    consistency,
    training: {
      steps: numSteps(document, facts.trainExamples) ?? 0,
      optimizer: resolveOptimizer(training.optimizer),
      learningRateSchedule: training.learningRateSchedule,
      decay: resolveDecay(training.decay, training.optimizer.kind === 'adamw' ? ADAMW_WEIGHT_DECAY : 0),
      clipNorm: training.clipNorm,
      evaluateEvery:
        training.evaluateEvery ??
        (facts.testExamples === 0 ? 0 : epochSteps(1, facts.trainExamples, document.data.batchSize)),
    },
    sparsity: resolveRules(document, facts.trainExamples),
    ...(initialize === undefined ? {} : { initialize }),
    ...(distillation === undefined ? {} : { distillation }),
    ...(clustering === undefined ? {} : { clustering }),
    ...(recalibrate === undefined ? {} : { recalibrate }),
    ...resolveQuantization(document, facts.trainExamples),
    ...resolveRewind(document, facts.trainExamples),
    ...resolveShrink(document, facts.trainExamples),
    kernels,
    wire,
    checkpoint,
    coordination: runFile.coordination,
    security: runFile.security,
    ...(document.faults === undefined ? {} : { faults: document.faults }),
    ...(document.history === undefined ? {} : { history: document.history }),
  };
}

type Training = RunFile['document']['training'];

function resolveOptimizer(optimizer: Training['optimizer']): OptimizerConfig {
  return optimizer.kind === 'adamw' ? { ...optimizer, kind: 'adam' } : optimizer;
}

/** What the user should know though nothing is wrong: ignored settings and wasted workers, one sentence each. */
export function configWarnings(runFile: RunFile, config: RunConfig, facts: JobFacts): string[] {
  const warnings: string[] = [];
  const { source } = runFile;
  const { cluster, training, kernels } = config;
  if (cluster.workers.max > cluster.slices) {
    warnings.push(
      `cluster.workers ${cluster.workers.max} is more than cluster.slices ${cluster.slices}: ${cluster.workers.max - cluster.slices} will be idle`,
    );
  }
  // The default is written into every effective file, so only another value shows that the user meant it.
  if (kernels.sparseBelow !== 0.2)
    warnings.push(`kernels.sparseBelow ${kernels.sparseBelow} is ignored: this version computes every layer dense`);
  if (facts.testExamples === 0 && training.evaluateEvery > 0) {
    warnings.push(`training.evaluateEvery ${training.evaluateEvery} is ignored: the data has no test part`);
  }
  const { warmupSteps } = training.learningRateSchedule;
  if (warmupSteps >= training.steps)
    warnings.push(
      `training.learningRateSchedule.warmupSteps ${warmupSteps} spans the whole run of ${training.steps} steps`,
    );
  warnings.push(...decayWarnings(training.decay, (key) => source.has(['training', 'decay', key]), facts.prunableNames));
  if (config.data.batchSize > facts.trainExamples) {
    warnings.push(
      `data.batchSize ${config.data.batchSize} is more than the ${facts.trainExamples} training examples: a step sees some of them twice`,
    );
  }
  warnings.push(...unusualMatches(config, facts));
  return warnings;
}

/** Pruning a bias is the user's right and rarely their wish. */
function unusualMatches({ sparsity }: RunConfig, { parameterNames, prunableNames }: JobFacts): string[] {
  if (parameterNames === undefined || prunableNames === undefined) return [];
  return sparsity.flatMap(({ match }, k) => {
    if (match === null) return [];
    const others = parameterNames.filter((name) => matchesGlob(match, name) && !prunableNames.includes(name));
    const more = others.length > 3 ? ` and ${others.length - 3} more` : '';
    return others.length === 0
      ? []
      : [
          `sparsity.${k}.match ${JSON.stringify(match)} also prunes ${others.slice(0, 3).join(', ')}${more}, which are no kernels`,
        ];
  });
}
