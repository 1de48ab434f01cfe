import { randomBytes } from 'node:crypto';
import { mkdir, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve as resolvePath, sep } from 'node:path';
import { diskError, errorCode, makeFolder, writeDurably } from '../checkpoint/durable.ts';
import { MANIFEST_FILE } from '../checkpoint/manifest-file.ts';
import { nearest } from '../config/suggest.ts';
import { coordinationOf, leaderOf, timelineOf } from '../coordination/scheduler-finder.ts';
import { WhittleError } from '../errors.ts';
import { commandLine } from '../invocation.ts';
import { plural } from '../plural.ts';
import { MetricsFile } from './metrics-file.ts';
import type { Role, RunResult, RunStatus } from './run-status.ts';

const RUN_FILE = 'run.yaml';
const LOG_EXTENSION = '.log';

/** `runs/<id>`: everything a run leaves behind. Files are replaced whole, never changed in place. */
export class RunDirectory {
  /** Absolute. */
  readonly path: string;
  readonly runId: string;
  /** The effective run file. */
  readonly runFile: string;
  readonly statusFile: string;
  readonly resultFile: string;
  readonly checkpointsFolder: string;
  readonly logsFolder: string;
  readonly metrics: MetricsFile;

  constructor(path: string) {
    this.path = resolvePath(path);
    this.runId = basename(this.path);
    this.runFile = join(this.path, RUN_FILE);
    this.statusFile = join(this.path, 'status.json');
    this.resultFile = join(this.path, 'result.json');
    this.checkpointsFolder = join(this.path, 'checkpoints');
    this.logsFolder = join(this.path, 'logs');
    this.metrics = new MetricsFile(join(this.path, 'metrics.jsonl'));
  }

  /** Checks that `runsFolder/runId` can be made, and makes nothing. Errors: USAGE, RUN_EXISTS as in `create`. */
  static async requireFree(runsFolder: string, runId: string): Promise<void> {
    requireRunId(runId);
    const run = new RunDirectory(join(runsFolder, runId));
    if ((await exists(run.path)) && !(await run.#isSpent())) throw runExists(run);
  }

  /**
   * Gives the name of a run that ended before its first checkpoint, which nothing can continue, to the next one: its
   * directory is renamed, for its logs say why. Returns its new id; null where there is no such run.
   */
  static async setAside(runsFolder: string, runId: string): Promise<string | null> {
    const run = new RunDirectory(join(runsFolder, runId));
    if (!isRunId(runId) || !(await run.#isSpent())) return null;
    for (let n = 1; ; n += 1) {
      const id = `${runId.slice(0, 110)}.failed-${n}`;
      if (await exists(join(runsFolder, id))) continue;
      await rename(run.path, join(runsFolder, id));
      return id;
    }
  }

  /**
   * Makes `runsFolder/runId` with the effective run file in it. Errors: USAGE for an id that is no file
   * name, RUN_EXISTS, DISK.
   */
  static async create(runsFolder: string, runId: string, runFile: string): Promise<RunDirectory> {
    requireRunId(runId);
    const run = new RunDirectory(join(runsFolder, runId));
    await makeFolder(resolvePath(runsFolder));
    try {
      await mkdir(run.path);
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw await diskError(run.path, 0, error);
      throw runExists(run);
    }
    await makeFolder(run.logsFolder);
    await makeFolder(run.checkpointsFolder);
    // Last: a folder without it is not a run.
    await writeText(run.runFile, runFile);
    return run;
  }

  /** The runs in a folder, newest first; none if the folder does not exist. */
  static async list(runsFolder: string): Promise<RunDirectory[]> {
    const found: { run: RunDirectory; created: number }[] = [];
    for (const entry of await entriesOf(runsFolder)) {
      const run = new RunDirectory(join(runsFolder, entry));
      const created = await createdAt(run);
      if (created !== null) found.push({ run, created });
    }
    // Ids end in their date, so they also order runs made in the same millisecond.
    found.sort((a, b) => b.created - a.created || (a.run.runId < b.run.runId ? 1 : -1));
    return found.map(({ run }) => run);
  }

  /** The run that a user means: an id in `runsFolder`, or the path of a run directory. Errors: RUN_UNKNOWN. */
  static async resolve(runsFolder: string, idOrPath: string): Promise<RunDirectory> {
    const candidates = isRunId(idOrPath) ? [join(runsFolder, idOrPath), idOrPath] : [idOrPath];
    for (const candidate of candidates) {
      const run = new RunDirectory(candidate);
      if ((await createdAt(run)) !== null) return run;
    }
    throw await unknownRun(runsFolder, idOrPath);
  }

  /** `logs/<role>-<rank>.log` */
  logFile(role: Role, rank: number): string {
    return join(this.logsFolder, `${role}-${rank}${LOG_EXTENSION}`);
  }

  /** All log files there are, scheduler first, then servers and workers by rank. */
  async logFiles(): Promise<{ role: Role; rank: number; path: string }[]> {
    const files: { role: Role; rank: number; path: string }[] = [];
    for (const name of await entriesOf(this.logsFolder)) {
      const [, role, rank] = /^(scheduler|server|worker)-(\d+)\.log$/.exec(name) ?? [];
      if (role !== undefined) files.push({ role: role as Role, rank: Number(rank), path: join(this.logsFolder, name) });
    }
    return files.sort((a, b) => (a.role === b.role ? a.rank - b.rank : a.role < b.role ? -1 : 1));
  }

  /** Atomic, not synced: it is rewritten every second. One writer at a time. */
  async writeStatus(status: RunStatus): Promise<void> {
    const temporary = `${this.statusFile}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`;
    const text = json(status);
    try {
      await writeFile(temporary, text);
      await rename(temporary, this.statusFile);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined);
      throw await diskError(this.statusFile, text.length, error);
    }
  }

  /** As last written; null before the first time. */
  readStatus(): Promise<RunStatus | null> {
    return readJson<RunStatus>(this.statusFile);
  }

  /**
   * As last written, but FAILED where it says that the run goes on and no scheduler holds the directory.
   * So a scheduler takes the lock before it writes a status, and writes its last one before it gives it back.
   */
  async effectiveStatus(): Promise<RunStatus | null> {
    const first = await this.readStatus();
    if (!goesOn(first) || (await leaderOf(this.path)) !== null) return first;
    // Read again: the run may have ended in order between the two looks.
    const status = await this.readStatus();
    return goesOn(status) ? schedulerGone(status) : status;
  }

  /** It has ended, and there is nothing to go on from. */
  async #isSpent(): Promise<boolean> {
    const result = await this.readResult().catch(() => null);
    if (result === null || result.state === 'SUCCEEDED' || result.checkpoint !== null) return false;
    if ((await leaderOf(this.path)) !== null) return false;
    // What etcd knows of a run that began goes by its id, and stays.
    if ((await coordinationOf(this.path)) !== 'embedded' && (await timelineOf(this.path)).lineage.length > 0)
      return false;
    const folders = (await entriesOf(this.checkpointsFolder)).map((name) => join(this.checkpointsFolder, name));
    const isThere = await Promise.all(folders.map((folder) => exists(join(folder, MANIFEST_FILE))));
    return !isThere.includes(true);
  }

  writeResult(result: RunResult): Promise<void> {
    return writeText(this.resultFile, json(result));
  }

  readResult(): Promise<RunResult | null> {
    return readJson<RunResult>(this.resultFile);
  }
}

/**
 * `<name>-<UTC date>-<time>-<4 hex digits>`: a file name, sorts by time within a name, and two launches in
 * one second differ.
 */
export function newRunId(name: string, now: Date = new Date()): string {
  const safe = name
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[.-]+|-+$/g, '')
    .slice(0, 64);
  const stamp = now.toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  return `${safe === '' ? 'run' : safe}-${stamp}-${randomBytes(2).toString('hex')}`;
}

function isRunId(text: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(text);
}

function requireRunId(runId: string): void {
  if (isRunId(runId)) return;
  throw new WhittleError(
    'USAGE',
    `run id ${JSON.stringify(runId)} must be at most 128 letters, digits, '.', '_' and '-', and begin with a letter, digit or '_'`,
    { data: { runId } },
  );
}

function runExists({ runId, path }: RunDirectory): WhittleError {
  return new WhittleError(
    'RUN_EXISTS',
    `run ${runId} exists in ${dirname(path)}; continue it with \`${commandLine('resume', path)}\`, or choose another --run-id`,
    { data: { runId, path } },
  );
}

function goesOn(status: RunStatus | null): status is RunStatus {
  return status?.state === 'RUNNING' || status?.state === 'PENDING';
}

function schedulerGone(status: RunStatus): RunStatus {
  const message = `scheduler gone: process ${status.scheduler.pid} on ${status.scheduler.host} ended without a word`;
  return {
    ...status,
    state: 'FAILED',
    activity: 'scheduler gone',
    failure: status.failure ?? { role: 'scheduler', rank: 0, code: 'ROLE_LOST', message, stack: '', step: status.step },
  };
}

async function unknownRun(runsFolder: string, wanted: string): Promise<WhittleError> {
  const folder = resolvePath(runsFolder);
  const ids = (await RunDirectory.list(runsFolder)).map(({ runId }) => runId);
  const looked = wanted.includes(sep)
    ? `${resolvePath(wanted)} is no run directory (it has no ${RUN_FILE})`
    : `no run ${wanted} in ${folder}`;
  const near = nearest(basename(wanted), ids);
  const cure =
    ids.length === 0
      ? `${folder} holds no runs; name another folder with --runs-dir`
      : `${near === undefined ? '' : `did you mean ${near}? `}\`${commandLine('list', '--runs-dir', folder)}\` shows the ${plural(ids.length, 'run')} there ${ids.length === 1 ? 'is' : 'are'}`;
  return new WhittleError('RUN_UNKNOWN', `${looked}; ${cure}`, { data: { wanted, runsFolder: folder, runs: ids } });
}

async function entriesOf(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw await diskError(folder, 0, error);
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Milliseconds at which a run's file was written, or null: no run. */
async function createdAt(run: RunDirectory): Promise<number | null> {
  try {
    return (await stat(run.runFile)).mtimeMs;
  } catch {
    return null;
  }
}

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

async function writeText(path: string, text: string): Promise<void> {
  const bytes = Buffer.from(text);
  await writeDurably(path, bytes.length, (sink) => sink(bytes));
}

async function readJson<T>(path: string): Promise<T | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw await diskError(path, 0, error);
  }
  try {
    return JSON.parse(text) as T;
  } catch (error) {
    throw new WhittleError('DISK', `${path} is damaged: it is not JSON; remove it`, { cause: error, data: { path } });
  }
}
