import { stringify } from 'yaml';
import { WhittleError } from '../errors.ts';
import { commandLine } from '../invocation.ts';
import { nameOf } from './problems.ts';
import { openPositions } from './resolve-schedule.ts';
import { rulesDocument } from './resolve-sparsity.ts';
import { resolveRunConfig } from './resolve.ts';
import { parseRunFile } from './run-file.ts';
import type { RunConfig } from './types.ts';

/** The effective run file as `runs/<id>/run.yaml` holds it; `loadRunFile` of it gives the same RunConfig again. */
export function runConfigToYaml(config: RunConfig): string {
  const head = '# Effective run file: every default filled in. `whittle launch` takes it like any other.\n';
  return head + stringify(toDocument(config), { lineWidth: 0, collectionStyle: 'any' });
}

/** The effective file in the spelling of run files. */
function toDocument(config: RunConfig): Record<string, unknown> {
  const { min, max } = config.cluster.workers;
  return {
    ...config,
    cluster: { ...config.cluster, workers: min === max ? max : `${min}:${max}` },
    sparsity: rulesDocument(config.sparsity),
  };
}

/** JSON of a RunConfig as a run file; other text, and JSON that is no RunConfig, as it is: the schema refuses it. */
function toYaml(text: string): string {
  try {
    return runConfigToYaml(JSON.parse(text) as RunConfig);
  } catch {
    return text;
  }
}

/**
 * An effective run file read back, by roles and by resume: YAML as `runConfigToYaml` writes it, or the JSON of
 * a RunConfig. Throws RUN_FILE where something in it is wrong or still open (`auto`, epochs, percentages).
 */
export function parseRunConfig(text: string, label = 'effective run file'): RunConfig {
  const runFile = parseRunFile(toYaml(text), label);
  const { document } = runFile;
  const open = [
    ...(runFile.backend === 'auto' ? ['cluster.backend: auto'] : []),
    ...(document.training.steps === undefined ? ['training.epochs'] : []),
    ...(document.training.evaluateEvery === undefined ? ['training.evaluateEvery (missing)'] : []),
    ...(typeof (document.clustering?.beginStep ?? 0) === 'number' ? [] : ['clustering.beginStep']),
    ...document.sparsity.flatMap(({ schedule }, k) =>
      openPositions(schedule).map(
        ({ path, position }) => `${nameOf(['sparsity', k, 'schedule', ...path])}: ${position}`,
      ),
    ),
    ...(typeof (document.shrink?.atStep ?? 0) === 'number' ? [] : [`shrink.atStep: ${document.shrink?.atStep}`]),
    ...(typeof document.quantization?.beginStep === 'string'
      ? [`quantization.beginStep: ${document.quantization.beginStep}`]
      : []),
  ];
  if (open.length > 0) {
    throw new WhittleError(
      'RUN_FILE',
      `${label} is not an effective run file: ${open.join(', ')} must be resolved; launch with \`${commandLine('launch', label)}\``,
      { data: { open } },
    );
  }
  // Nothing is open, so no fact is used.
  return resolveRunConfig(runFile, { trainExamples: 0, testExamples: 0, backend: 'cpu' });
}
