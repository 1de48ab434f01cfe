/** Checks a run file against its model, data and machine before anything is started. */
import type { RunFile } from '../../shared/config/run-file.ts';
import { configWarnings, resolveRunConfig } from '../../shared/config/resolve.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import { resolveBackend } from '../backend/backend.ts';
import { disposeVariables } from '../model/describe-model.ts';
import { checkExamples } from './check-examples.ts';
import { prepareJob } from './job.ts';

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
export async function describeJob(runFile: RunFile): Promise<DescribedJob> {
  const backend = await resolveBackend(runFile.backend);
  const { source } = runFile.data;
  const activations = runFile.document.quantization?.activations ?? null;
  const job = await prepareJob({ backend, source, model: runFile.model, seed: runFile.seed, activations });
  const { description } = job;
  try {
    await checkExamples(job, { batchSize: runFile.data.batchSize, seed: runFile.seed });
  } finally {
    disposeVariables(job.variables);
  }
  const { parameters, trainExamples, testExamples } = description;
  const facts = {
    trainExamples,
    testExamples,
    backend,
    parameterNames: parameters.map(({ name }) => name),
    prunableNames: parameters.filter(({ prunable }) => prunable).map(({ name }) => name),
  };
  const config = resolveRunConfig(runFile, facts);
  return { description, config, warnings: [...description.notes, ...configWarnings(runFile, config, facts)] };
}
