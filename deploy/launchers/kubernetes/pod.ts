import { readFile, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { WhittleError } from '../../../shared/errors.ts';
import { RunDirectory } from '../../../shared/telemetry/run-directory.ts';
import type { Role, RunResult, RunStatus } from '../../../shared/telemetry/run-status.ts';
import type { RoleExit } from '../launcher.ts';
import { LineTail } from '../line-tail.ts';
import { startRole, type RoleProcess } from '../role-process.ts';
import { POD_EXIT } from './job-set.ts';
import { PATHS } from './names.ts';
import { prepareDirectory } from './pod-directory.ts';
import { isNews, parsePodEvent, type PodEvent } from './pod-events.ts';

export interface PodOptions {
  readonly role: Role;
  /** What follows the role's command, as in the manifest. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Program, and its arguments before the role's command. */
  readonly command: string;
  readonly entry: readonly string[];
  /** Aborted by SIGTERM: the node is drained, the pod preempted, or the JobSet deleted. */
  readonly signal: AbortSignal;
  readonly print: (line: string) => void;
  /** Default: where the manifest mounts them. */
  readonly filesFolder?: string;
  readonly podFolder?: string;
  /** Milliseconds between looks at files. */
  readonly pollEvery?: number;
}

/**
 * Runs a role as the main process of a pod, which it outlives by a moment: prints the role's log (and, of a scheduler,
 * the run's statuses and result) and resolves to what its Job must know (POD_EXIT): a pod that ends `died` is replaced.
 */
export async function runPod(options: PodOptions): Promise<number> {
  const { role, args, env, print, filesFolder = PATHS.files, podFolder = PATHS.pod, pollEvery = 500 } = options;
  const rank = Number(env['JOB_COMPLETION_INDEX'] ?? 0);
  const directory = new RunDirectory(optionOf(args, '--run-dir'));
  let beginning: string[] = [];
  let first = true;
  if (role === 'scheduler') {
    const resume = env['WHITTLE_RESUME'];
    const launchId = launchIdOf(env);
    const prepared = { runDirectory: directory.path, files: filesFolder, launchId, resume: resume !== undefined };
    ({ first } = await prepareDirectory(prepared));
    const result = first ? null : await directory.readResult();
    // The scheduler before this one had ended the run, and its pod was lost after that.
    if (result !== null) return conclude(result, print);
    beginning = first ? (resume === undefined ? [] : ['--resume', resume]) : ['--recover'];
  }

  const output = join(directory.logsFolder, `${role}-${rank}.out`);
  const tails = await Promise.all([directory.logFile(role, rank), output].map(tailFromEnd));
  const process = await startRole({
    role,
    rank,
    command: options.command,
    argv: [...options.entry, role, ...args, ...placeOf(role, rank, env), ...beginning],
    outputFile: output,
  });
  const stop = role === 'scheduler' ? new StopWish(directory.path, join(podFolder, 'stop'), launchIdOf(env)) : null;
  // The status of a scheduler before this one is no news.
  const told = await directory.readStatus().catch(() => null);
  const watch = new PodWatch(directory, stop, told, tails, print);
  const terminate = (): void => {
    // A worker hands its slices over. The others would end the whole run if they were asked to leave; killed, they are
    // replaced, and the run goes on.
    process.kill(role === 'worker' ? 'SIGTERM' : 'SIGKILL');
  };
  options.signal.addEventListener('abort', terminate, { once: true });
  if (options.signal.aborted) terminate();
  while (process.ended() === null) {
    await watch.look(process);
    await Promise.race([process.exit, sleep(pollEvery)]);
  }
  options.signal.removeEventListener('abort', terminate);
  await watch.look(process);
  const exit = await process.exit;
  if (role === 'scheduler') {
    const result = await directory.readResult();
    if (result !== null) return conclude(result, print);
    // What keeps the first scheduler from starting keeps the next one too: a run file that is wrong, a full disk.
    const refused = first && !options.signal.aborted && (exit.code === 1 || exit.code === 2);
    return refused ? POD_EXIT.failed : POD_EXIT.died;
  }
  return memberExit(exit, options.signal.aborted);
}

/**
 * A member that failed has told the scheduler, which ends the run. Its pod is done: if it failed too, a Job whose pods
 * all failed would end the JobSet, and the scheduler with it, before that has written the result.
 */
function memberExit(exit: RoleExit, terminated: boolean): number {
  return !terminated && (exit.code === 0 || exit.code === 1) ? POD_EXIT.done : POD_EXIT.died;
}

function conclude(result: RunResult, print: (line: string) => void): number {
  print(JSON.stringify({ event: 'result', result } satisfies PodEvent));
  return result.state === 'FAILED' ? POD_EXIT.failed : POD_EXIT.done;
}

function placeOf(role: Role, rank: number, env: PodOptions['env']): string[] {
  const domain = env['WHITTLE_POD_DOMAIN'];
  return [
    ...(role === 'scheduler' ? [] : ['--rank', String(rank)]),
    ...(domain === undefined ? [] : ['--advertise', `${hostname()}.${domain}`]),
  ];
}

function launchIdOf(env: PodOptions['env']): string {
  return env['WHITTLE_LAUNCH_ID'] ?? '';
}

/** The user's wish to stop: an annotation of one pod, which the pod that takes its place must know of too. */
class StopWish {
  readonly #marker: string;
  readonly #file: string;
  readonly #launchId: string;

  constructor(runDirectory: string, file: string, launchId: string) {
    this.#marker = join(runDirectory, 'kubernetes-stop');
    this.#file = file;
    this.#launchId = launchId;
  }

  async isThere(): Promise<boolean> {
    // Of this launch: a run that is resumed was stopped before.
    if ((await readFile(this.#marker, 'utf8').catch(() => '')) === this.#launchId) return true;
    if ((await readFile(this.#file, 'utf8').catch(() => '')) === '') return false;
    await writeFile(this.#marker, this.#launchId);
    return true;
  }
}

/** Hands on what a role writes, and the user's wish to stop. */
class PodWatch {
  readonly #directory: RunDirectory;
  readonly #stop: StopWish | null;
  readonly #tails: readonly LineTail[];
  readonly #print: (line: string) => void;
  #told: RunStatus | null;
  #listening = false;
  #stopping = false;

  constructor(
    directory: RunDirectory,
    stop: StopWish | null,
    told: RunStatus | null,
    tails: readonly LineTail[],
    print: (line: string) => void,
  ) {
    this.#directory = directory;
    this.#stop = stop;
    this.#told = told;
    this.#tails = tails;
    this.#print = print;
  }

  async look(process: RoleProcess): Promise<void> {
    for (const tail of this.#tails) {
      for (const line of await tail.read()) {
        this.#listening ||= parsePodEvent(line)?.event === 'listening';
        if (line !== '') this.#print(line);
      }
    }
    if (this.#stop === null) return;
    // A scheduler that is only starting would die of the signal instead of stopping the run.
    if (this.#listening && !this.#stopping && (await this.#stop.isThere())) {
      this.#stopping = true;
      process.kill('SIGTERM');
    }
    // A status that is half written is read whole the next time.
    const status = await this.#directory.readStatus().catch(() => null);
    if (status === null || !isNews(this.#told, status)) return;
    this.#told = status;
    this.#print(JSON.stringify({ event: 'status', status } satisfies PodEvent));
  }
}

/** What is in the file already is of a pod before this one. */
async function tailFromEnd(path: string): Promise<LineTail> {
  const size = await stat(path).then(
    (stats) => stats.size,
    () => 0,
  );
  return new LineTail(path, size);
}

function optionOf(args: readonly string[], name: string): string {
  const value = args[args.indexOf(name) + 1];
  if (!args.includes(name) || value === undefined)
    throw new WhittleError('USAGE', `${name} is missing; the manifests of \`whittle launch --on kubernetes\` have it`);
  return value;
}
