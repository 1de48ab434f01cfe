import { readFileSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { WhittleError } from '../errors.ts';
import { coordinationProblems, resolveCoordination } from './coordination.ts';
import { type DistillationConfig, resolveDistillation } from './distillation.ts';
import { type InitializeConfig, resolveInitialize } from './initialize.ts';
import { commandLine } from '../invocation.ts';
import { decayProblems } from './decay.ts';
import { problemsOf, valueAt } from './problems.ts';
import { faultProblems } from './faults.ts';
import { checkClustering } from './resolve-clustering.ts';
import { checkGuard } from './check-guard.ts';
import { checkQuantization } from './resolve-quantization.ts';
import { checkRules } from './resolve-sparsity.ts';
import { isPath, runFileSchema, type RunFileDocument, workerRange } from './schema.ts';
import { RunFileSource, type Path, type Problem } from './source.ts';
import type { CoordinationConfig, DataConfig, SecurityConfig } from './types.ts';

/**
 * A run file that passed every check that needs no knowledge of model and data: defaults filled in, paths
 * absolute. `resolveRunConfig` makes the effective one of it.
 */
export interface RunFile {
  /** Absolute path of the file. */
  readonly path: string;
  readonly name: string;
  readonly seed: number;
  /** A built-in's name, or the absolute path of a module. */
  readonly model: string;
  readonly data: DataConfig;
  readonly coordination: CoordinationConfig;
  readonly security: SecurityConfig;
  /** Paths are absolute, ids of runs as they are. */
  readonly initialize: InitializeConfig | undefined;
  readonly distillation: DistillationConfig | undefined;
  /** The backend as the user wrote it, `auto` included. */
  readonly backend: RunFileDocument['cluster']['backend'];
  /** The rest as written, with the defaults that are known by now. */
  readonly document: RunFileDocument;
  /** For errors at a place in the file. */
  readonly source: RunFileSource;
}

/**
 * Reads a run file. `set`: overrides `path=value`. Throws RUN_FILE naming every problem found, each with
 * file:line:column, the line, and the nearest valid word.
 */
export function loadRunFile(path: string, options: { readonly set?: readonly string[] } = {}): RunFile {
  return parseRunFile(read(path), path, options);
}

/** The same of text at hand; relative paths in it are taken from the folder of `path`. */
export function parseRunFile(text: string, path: string, options: { readonly set?: readonly string[] } = {}): RunFile {
  const source = new RunFileSource(path, text, options.set);
  const parsed = runFileSchema.safeParse(source.value);
  const problems = [
    ...(parsed.success ? [] : problemsOf(parsed.error.issues, source.value)),
    ...lengthProblems(source),
  ];
  if (!parsed.success) throw source.error([...problems, ...problemsBeside(problems, source.value)]);
  const document = parsed.data;
  problems.push(
    ...relationProblems(document),
    ...coordinationProblems(document.coordination),
    ...checkRules(document, {}),
    ...checkClustering(document, {}),
    ...checkQuantization(document, {}),
    ...checkGuard(document, {}),
    ...faultProblems(document),
  );
  if (problems.length > 0) throw source.error(problems);
  const absolute = resolve(path);
  const folder = dirname(absolute);
  return {
    path: absolute,
    name: document.name ?? nameFromFile(absolute),
    seed: document.seed,
    model: isPath(document.model) ? resolve(folder, document.model) : document.model,
    data: resolveData(document.data, folder),
    coordination: resolveCoordination(document.coordination, folder),
    security: {
      ...document.security,
      certificates: document.security.certificates === null ? null : resolve(folder, document.security.certificates),
    },
    initialize: resolveInitialize(document.initialize, folder),
    distillation: resolveDistillation(document.distillation, folder),
    backend: document.cluster.backend,
    document,
    source,
  };
}

/**
 * The error for something wrong at a key of the run file that only others can find (an unknown built-in model,
 * say): `throw runFileError(runFile, ['model'], 'model "x" is unknown; did you mean y?')`.
 */
export function runFileError(runFile: RunFile, path: Path, message: string): WhittleError {
  return runFile.source.error([{ path, message }]);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const told =
      code === 'ENOENT'
        ? `${path} does not exist; \`${commandLine('init')}\` writes a run file to start from`
        : code === 'EISDIR'
          ? `${path} is a folder; name the run file in it, such as ${path.replace(/\/$/, '')}/run.yaml`
          : `${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`;
    throw new WhittleError('RUN_FILE', told, { cause, data: { file: path } });
  }
}

/** Told apart from the schema's findings, because a missing length shall be named beside them. */
function lengthProblems({ value }: RunFileSource): Problem[] {
  const training = valueAt(value, ['training']);
  if (typeof training !== 'object' || training === null || Array.isArray(training)) return [];
  const { steps, epochs } = training as { steps?: unknown; epochs?: unknown };
  if (steps === undefined && epochs === undefined) {
    return [
      { path: ['training'], message: 'training needs its length; add steps, such as 1000, or epochs, such as 12' },
    ];
  }
  if (steps === undefined || epochs === undefined) return [];
  return [
    {
      path: ['training', 'epochs'],
      message: `training has both steps (${JSON.stringify(steps)}) and epochs (${JSON.stringify(epochs)}); remove one`,
    },
  ];
}

function relationProblems({ cluster, consistency, data, sparsity, training }: RunFileDocument): Problem[] {
  const straightThrough = sparsity.some((rule) => rule.straightThrough === true);
  const problems: Problem[] = [
    ...consistencyProblems(consistency, training.clipNorm, workerRange(cluster.workers).max),
    ...decayProblems(training.decay, { mode: consistency.mode, straightThrough }),
  ];
  const slices = cluster.slices ?? workerRange(cluster.workers).max;
  if (slices > data.batchSize) {
    const told =
      cluster.slices === undefined
        ? `cluster.workers ${cluster.workers} is the number of slices and`
        : `cluster.slices ${slices}`;
    problems.push({
      path: ['cluster', cluster.slices === undefined ? 'workers' : 'slices'],
      message: `${told} must be <= data.batchSize ${data.batchSize}, so that no slice is empty; lower it or raise batchSize`,
    });
  }
  const { optimizer } = training;
  if (optimizer.kind === 'sgd' && optimizer.nesterov && optimizer.momentum === 0) {
    problems.push({
      path: ['training', 'optimizer', 'nesterov'],
      message: 'training.optimizer.nesterov needs momentum > 0, momentum is 0; set it, such as momentum: 0.9',
    });
  }
  return problems;
}

function consistencyProblems(
  { mode, staleness, backupWorkers }: RunFileDocument['consistency'],
  clipNorm: number | null,
  workers: number,
): Problem[] {
  const problems: Problem[] = [];
  if (mode === 'ssp' && staleness === 0) {
    problems.push({
      path: ['consistency', 'mode'],
      message: 'consistency.mode ssp needs staleness >= 1, such as 3; with 0 it is bsp',
    });
  }
  if (mode !== 'ssp' && staleness > 0) {
    problems.push({
      path: ['consistency', 'staleness'],
      message: `consistency.staleness ${staleness} is for mode ssp, and mode is ${mode}; set mode: ssp or remove it`,
    });
  }
  if (backupWorkers > 0 && mode !== 'bsp') {
    problems.push({
      path: ['consistency', 'backupWorkers'],
      message: `consistency.backupWorkers ${backupWorkers} is for mode bsp, and mode is ${mode}: there nobody waits for the slowest; remove it`,
    });
  }
  if (backupWorkers >= workers) {
    problems.push({
      path: ['consistency', 'backupWorkers'],
      message: `consistency.backupWorkers ${backupWorkers} must be less than cluster.workers ${workers}; lower it`,
    });
  }
  if (clipNorm !== null && mode !== 'bsp') {
    problems.push({
      path: ['training', 'clipNorm'],
      message: `training.clipNorm ${clipNorm} needs the whole gradient of a step, which mode ${mode} does not wait for; use mode: bsp or clipNorm: null`,
    });
  }
  return problems;
}

/** Keys that say nothing about when a schedule prunes, and something valid to stand there. */
const HOW_MUCH: Readonly<Record<string, unknown>> = { initialSparsity: 0, finalSparsity: 0.5, power: 3 };

/** Keys that say when it prunes. */
const WHEN: ReadonlySet<unknown> = new Set(['beginStep', 'endStep', 'at', 'sparseSteps', 'denseSteps']);

/**
 * What is wrong with the steps of schedules, beside what the schema found: all is told at once, as far as no other
 * finding bears on it.
 */
function problemsBeside(found: readonly Problem[], value: unknown): Problem[] {
  const rest = structuredClone(value);
  for (const { path, key } of found) {
    const last = key ?? path.at(-1);
    const holder = valueAt(rest, key === undefined ? path.slice(0, -1) : path);
    if (last === undefined || typeof holder !== 'object' || holder === null || Array.isArray(holder)) continue;
    const values = holder as Record<string, unknown>;
    if (Object.hasOwn(HOW_MUCH, last)) values[last] = HOW_MUCH[last];
    else delete values[last];
  }
  const parsed = runFileSchema.safeParse(rest);
  if (!parsed.success) return [];
  const others = found.filter(({ path }) => !Object.hasOwn(HOW_MUCH, path.at(-1) ?? ''));
  const bearsOn = (rule: unknown, [top, second]: Path): boolean => {
    if (top === 'training') return second === undefined || second === 'steps' || second === 'epochs';
    if (top === 'data') return second === undefined || second === 'batchSize';
    return top === 'sparsity' && (second === undefined || second === rule);
  };
  return checkRules(parsed.data, {}).filter(
    ({ path }) => WHEN.has(path.at(-1)) && !others.some((other) => bearsOn(path[1], other.path)),
  );
}

function resolveData({ source, batchSize, order }: RunFileDocument['data'], folder: string): DataConfig {
  return { source: resolveSource(source, folder), batchSize, order };
}

function resolveSource(source: RunFileDocument['data']['source'], folder: string): DataConfig['source'] {
  if (typeof source === 'string') return isPath(source) ? resolve(folder, source) : source;
  if ('idx' in source) return { idx: resolve(folder, source.idx) };
  if (typeof source.csv === 'string') {
    return { csv: { train: resolve(folder, source.csv), test: null, label: -1, header: true, labels: 'classes' } };
  }
  const { train, test, label, header, labels } = source.csv;
  return {
    csv: { train: resolve(folder, train), test: test === null ? null : resolve(folder, test), label, header, labels },
  };
}

/** `runs of mine.yaml` -> `runs-of-mine`. */
function nameFromFile(path: string): string {
  const plain = basename(path)
    .replace(/\.ya?ml$/i, '')
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 100);
  return plain === '' ? 'run' : plain;
}
