import { closeSync, existsSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { WhittleError } from '../errors.ts';

/**
 * Places in the code where a test may let a process die or stand still, each a window in which a crash is of
 * interest. `role` is who passes it; `window` is what the fault suite counts.
 */
export const FAILPOINTS = {
  /** A slice is on its way to the first server and not to the others. */
  'push.half-sent': { role: 'worker', window: 'push' },
  /** This server has applied a step and told nobody; the others may not have applied it. */
  'step.applied': { role: 'server', window: 'apply' },
  /** This server waits for a mask commit and has not said so. */
  'hold.reached': { role: 'server', window: 'hold' },
  /** All servers hold, the record is decided, no server has it. */
  'commit.decided': { role: 'scheduler', window: 'hold' },
  /** The mask commit record is on its way to the first server and not to the others. */
  'commit.sent-to-some': { role: 'scheduler', window: 'commit' },
  /** This server has the new mask and has not acknowledged it. */
  'commit.applied': { role: 'server', window: 'commit' },
  /** This server's shard file is whole under its temporary name. */
  'checkpoint.shard-unrenamed': { role: 'server', window: 'checkpoint' },
  /** The manifest is in place and `latest` still names the checkpoint before. */
  'checkpoint.manifest-written': { role: 'scheduler', window: 'checkpoint' },
  /** A rollback has its generation and no member has been told. */
  'rollback.generation-taken': { role: 'scheduler', window: 'rollback' },
  /** This server has loaded a checkpoint of an earlier step and has not said so. */
  'rollback.restored': { role: 'server', window: 'rollback' },
} as const satisfies Readonly<Record<string, { role: 'scheduler' | 'server' | 'worker'; window: string }>>;

export type FailpointName = keyof typeof FAILPOINTS;
export type Window = (typeof FAILPOINTS)[FailpointName]['window'];

/** `NAME[#n][@step]=ACTION`, several separated by `;`: `hold.reached#2=kill; push.half-sent@120=pause 500`. */
export const FAILPOINTS_VARIABLE = 'WHITTLE_FAILPOINTS';
/** Folder of the marks of what fired: with it each entry fires once, however often its process is started again. */
export const FAILPOINTS_FOLDER_VARIABLE = 'WHITTLE_FAILPOINTS_FOLDER';

export type FailpointAction =
  | { readonly kind: 'kill' }
  | { readonly kind: 'exit' }
  /** Blocks the thread that passes, not the whole process. */
  | { readonly kind: 'pause'; readonly milliseconds: number }
  /** Until `release` writes the mark, at most a minute. */
  | { readonly kind: 'block' };

export interface ArmedFailpoint {
  /** Names its marks in the folder; default: its own text. */
  readonly id: string;
  readonly name: FailpointName;
  /** Fires at the n-th passage that meets `step`, from 1. */
  readonly hit: number;
  /** Null: any step. */
  readonly step: number | null;
  readonly action: FailpointAction;
}

/** Exit code of the action `exit`: one that no role uses. */
const EXIT_CODE = 70;
const BLOCK_DEADLINE_MS = 60_000;
const POLL_MS = 5;
/** What was handed to a transport before a failpoint has this long to leave the process. */
const DRAIN_MS = 50;

class Failpoints {
  readonly #armed: readonly ArmedFailpoint[];
  readonly #passed = new Map<ArmedFailpoint, number>();
  readonly #folder: string | null;

  constructor(armed: readonly ArmedFailpoint[], folder: string | null) {
    this.#armed = armed;
    this.#folder = folder;
  }

  /** The entry that fires now, its mark set; counts the passage. */
  take(name: FailpointName, step: number): ArmedFailpoint | null {
    for (const each of this.#armed) {
      if (each.name !== name || (each.step !== null && each.step !== step)) continue;
      const passed = (this.#passed.get(each) ?? 0) + 1;
      this.#passed.set(each, passed);
      if (passed === each.hit && this.#mark(each, step)) return each;
    }
    return null;
  }

  act({ id, action }: ArmedFailpoint): void {
    switch (action.kind) {
      case 'kill':
        process.kill(process.pid, 'SIGKILL');
        // From a thread the signal may take a moment to arrive: nothing may happen meanwhile.
        blockFor(BLOCK_DEADLINE_MS);
        return;
      case 'exit':
        process.exit(EXIT_CODE);
        return;
      case 'pause':
        blockFor(action.milliseconds);
        return;
      case 'block':
        for (const end = Date.now() + BLOCK_DEADLINE_MS; Date.now() < end;) {
          if (this.#folder !== null && existsSync(releaseFile(this.#folder, id))) return;
          blockFor(POLL_MS);
        }
    }
  }

  /** True for the one process that makes the mark. */
  #mark({ id }: ArmedFailpoint, step: number): boolean {
    if (this.#folder === null) return true;
    try {
      mkdirSync(this.#folder, { recursive: true });
      const file = openSync(firedFile(this.#folder, id), 'wx');
      writeSync(file, JSON.stringify({ pid: process.pid, step, at: Date.now() }));
      closeSync(file);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw error;
    }
  }
}

/** Undefined: the environment was not read yet. Each thread reads it once. */
let failpoints: Failpoints | null | undefined;

/**
 * A named failpoint; nothing but one comparison while none is armed. `step`: what `@step` of an entry is compared
 * with. Blocks the thread where its action says so.
 */
export function failpoint(name: FailpointName, step: number): void {
  if (failpoints === null) return;
  failpoints ??= fromEnvironment();
  const taken = failpoints?.take(name, step);
  if (taken) failpoints?.act(taken);
}

/**
 * The same behind something handed to a transport: first lets it leave the process. Undefined while none is armed,
 * so that the caller need not wait: `const fault = failpointAfterSend(...); if (fault) await fault;`.
 */
export function failpointAfterSend(name: FailpointName, step: number): Promise<void> | undefined {
  if (failpoints === null) return undefined;
  failpoints ??= fromEnvironment();
  const taken = failpoints?.take(name, step);
  return taken ? sleep(DRAIN_MS).then(() => failpoints?.act(taken)) : undefined;
}

/** Lets a process go on that stands at the failpoint of a `block` entry. */
export function releaseFailpoint(folder: string, id: string): void {
  mkdirSync(folder, { recursive: true });
  closeSync(openSync(releaseFile(folder, id), 'a'));
}

export function firedFile(folder: string, id: string): string {
  return join(folder, `${fileName(id)}.fired`);
}

function releaseFile(folder: string, id: string): string {
  return join(folder, `${fileName(id)}.released`);
}

function fileName(id: string): string {
  return id.replace(/[^A-Za-z0-9._-]+/g, '-');
}

function fromEnvironment(): Failpoints | null {
  const text = process.env[FAILPOINTS_VARIABLE] ?? '';
  if (text === '') return null;
  return new Failpoints(parseFailpoints(text), process.env[FAILPOINTS_FOLDER_VARIABLE] ?? null);
}

/** Errors: USAGE, naming the entry. */
export function parseFailpoints(text: string): ArmedFailpoint[] {
  return text
    .split(';')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '')
    .map(parseEntry);
}

/** `[ID:]NAME[#n][@step]=ACTION`, as `parseFailpoints` reads it. */
export function formatFailpoint({ id, name, hit, step, action }: ArmedFailpoint): string {
  const how = action.kind === 'pause' ? `pause ${action.milliseconds}` : action.kind;
  return `${id}:${name}#${hit}${step === null ? '' : `@${step}`}=${how}`;
}

function parseEntry(entry: string): ArmedFailpoint {
  const match = /^(?:([A-Za-z0-9_-]+):)?([a-z.-]+)(?:#(\d+))?(?:@(\d+))?\s*=\s*(kill|exit|block|pause\s+(\d+))$/.exec(
    entry,
  );
  const [, id, name = '', hit, step, action = '', milliseconds] = match ?? [];
  if (!Object.hasOwn(FAILPOINTS, name) || hit === '0') {
    throw new WhittleError(
      'USAGE',
      `${FAILPOINTS_VARIABLE} has "${entry}"; write NAME[#hit][@step]=kill|exit|block|pause MS with a name of ${Object.keys(FAILPOINTS).join(', ')}`,
    );
  }
  return {
    id: id ?? entry,
    name: name as FailpointName,
    hit: Number(hit ?? 1),
    step: step === undefined ? null : Number(step),
    action:
      milliseconds === undefined
        ? { kind: action as 'kill' | 'exit' | 'block' }
        : { kind: 'pause', milliseconds: Number(milliseconds) },
  };
}

function blockFor(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
