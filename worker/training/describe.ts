/** Checks a run file against its model, data and machine before anything is started. */
import { locateTrained } from '../../shared/checkpoint/trained-source.ts';
import { type RunFile, runFileError } from '../../shared/config/run-file.ts';
import type { Path } from '../../shared/config/source.ts';
import { WhittleError } from '../../shared/errors.ts';
import { configWarnings, resolveRunConfig } from '../../shared/config/resolve.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import { resolveBackend } from '../backend/backend.ts';
import { readInitialValues } from '../model/initial-values.ts';
import { checkExamples } from './check-examples.ts';
import { disposeJob, prepareJob } from './job.ts';
import type { Job } from './job.ts';
import { normalizersOf } from './recalibration.ts';

export interface DescribeOptions {
  /** Where ids of runs are looked up. Default: `runs`. */
  readonly runsDirectory?: string;
  /** The run has its first checkpoint: what it started from is not asked for any more. Default false. */
  readonly resumes?: boolean;
}

export interface DescribedJob {
  readonly description: ModelDescription;
  readonly config: RunConfig;
  /** The description's notes, then what is odd about the run file. */
  readonly warnings: readonly string[];
}

/**
 * Loads the data, builds the model and tries some examples in this process; leaves no tensor behind.
 * @throws RUN_FILE, MODEL, DATA or UNSUPPORTED
 */
export async function describeJob(written: RunFile, options: DescribeOptions = {}): Promise<DescribedJob> {
  const runFile = await locateSources(written, options);
  const backend = await resolveBackend(runFile.backend);
  const { source } = runFile.data;
  const { model, seed, distillation } = runFile;
  const activations = runFile.document.quantization?.activations ?? null;
  const job = await atKey(runFile, ['distillation', 'teacher'], () =>
    prepareJob({ backend, source, model, seed, activations, distillation, rules: runFile.document.sparsity }),
  );
  const { description } = job;
  let notes: readonly string[] = [];
  try {
    await checkExamples(job, { batchSize: runFile.data.batchSize, seed });
    if (options.resumes !== true) notes = await checkInitialize(runFile, job);
    if (runFile.document.recalibrate !== undefined) checkRecalibrate(runFile, job);
  } finally {
    disposeJob(job);
  }
  const { parameters, trainExamples, testExamples } = description;
  const facts = {
    trainExamples,
    testExamples,
    backend,
    parameters,
    parameterNames: parameters.map(({ name }) => name),
    prunableNames: parameters.filter(({ prunable }) => prunable).map(({ name }) => name),
  };
  const config = resolveRunConfig(runFile, facts);
  const warnings = [...description.notes, ...notes, ...configWarnings(runFile, config, facts)];
  return { description, config, warnings };
}

/** Ids of runs become the paths of their newest checkpoints, so that every process of the run reads the same. */
async function locateSources(
  runFile: RunFile,
  { runsDirectory = 'runs', resumes = false }: DescribeOptions,
): Promise<RunFile> {
  const { initialize, distillation } = runFile;
  const locate = (path: Path, name: string): Promise<string> =>
    atKey(runFile, path, async () => (await locateTrained(name, runsDirectory)).path);
  return {
    ...runFile,
    initialize:
      initialize === undefined || resumes
        ? initialize
        : { from: await locate(['initialize', 'from'], initialize.from) },
    distillation: distillation && {
      ...distillation,
      teacher: await locate(['distillation', 'teacher'], distillation.teacher),
    },
  };
}

/** @throws RUN_FILE where the source does not fit the model; answers what the user should know */
async function checkInitialize(runFile: RunFile, { backend, description, variables }: Job): Promise<readonly string[]> {
  const { initialize } = runFile;
  if (initialize === undefined) return [];
  const read = () => readInitialValues(backend.tf, initialize.from, description, variables);
  return (await atKey(runFile, ['initialize', 'from'], read)).notes;
}

function checkRecalibrate(runFile: RunFile, { loaded }: Job): void {
  if (normalizersOf(loaded.model).length > 0) return;
  throw runFileError(runFile, ['recalibrate'], 'recalibrate: the model has no batch normalisation; remove the key');
}

/** What a trained model cannot be used for is an error of the key that names it. */
async function atKey<T>(runFile: RunFile, path: Path, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (reason) {
    const error = WhittleError.from(reason);
    if (error.code !== 'CHECKPOINT' || !runFile.source.has(path)) throw error;
    throw runFileError(runFile, path, `${path.join('.')}: ${error.rawMessage}`);
  }
}
