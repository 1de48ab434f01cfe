import { WhittleError } from '../errors.ts';
import { FAILPOINTS, type FailpointName } from '../telemetry/failpoints.ts';
import type { Role } from '../telemetry/run-status.ts';
import type { RunFileDocument } from './schema.ts';
import type { Problem } from './source.ts';
import { nearest } from './suggest.ts';

/** One process of a run. */
export interface FaultTarget {
  readonly role: Role;
  readonly rank: number;
}

export type FaultTrigger =
  /** As soon as the run has completed this step. */
  | { readonly kind: 'step'; readonly step: number }
  /** At the n-th passage (of step `step` only, where given) of `at`, or of the first of its role where null. */
  | {
      readonly kind: 'failpoint';
      readonly name: FailpointName;
      readonly hit: number;
      readonly step: number | null;
      readonly at: FaultTarget | null;
    };

/** One line of a fault script. */
export interface Fault {
  readonly trigger: FaultTrigger;
  readonly action: 'kill' | 'pause' | 'partition';
  readonly target: FaultTarget;
  /** How long a pause or partition lasts; 0 for a kill. */
  readonly milliseconds: number;
}

/** Processes there are of each role. */
export interface FaultRoles {
  readonly servers: number;
  readonly workers: number;
}

/** Where in a line something is wrong. */
export interface FaultError {
  /** From 1. */
  readonly column: number;
  readonly message: string;
}

const GRAMMAR =
  'at step N | at failpoint NAME [of ROLE] [hit N] [step N], then kill ROLE | pause ROLE for TIME | partition ROLE for TIME';
const ACTIONS = ['kill', 'pause', 'partition'] as const;
const UNITS = { ms: 1, s: 1000, m: 60_000 } as const;
/** Longer pauses are typing errors: every deadline of a run is over by then. */
const MAX_MILLISECONDS = 3_600_000;

/**
 * Reads one line: `at step 120 kill server[1]`, `at step 200 pause worker[0] for 5s`,
 * `at failpoint hold.reached of server[0] hit 2 kill scheduler`. Answers what is wrong, where something is.
 */
export function parseFault(line: string, roles: FaultRoles): Fault | FaultError {
  try {
    return new LineParser(line, roles).parse();
  } catch (reason) {
    if (reason instanceof LineError) return { column: reason.column, message: reason.message };
    throw reason;
  }
}

/** The faults of a script of lines that were checked before. Errors: RUN_FILE. */
export function parseFaults(lines: readonly string[], roles: FaultRoles): Fault[] {
  return lines.map((line, i) => {
    const parsed = parseFault(line, roles);
    if ('action' in parsed) return parsed;
    throw new WhittleError('RUN_FILE', `faults.${i}, column ${parsed.column}: ${parsed.message}`);
  });
}

/** The lines of a file given with --faults: one fault a line, `#` begins a comment. Errors: RUN_FILE with line and column. */
export function readFaultScript(text: string, label: string, roles: FaultRoles): string[] {
  const lines: string[] = [];
  const problems: string[] = [];
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.replace(/#.*$/, '').trimEnd();
    if (line.trim() === '') continue;
    const parsed = parseFault(line, roles);
    if ('action' in parsed) lines.push(line.trim());
    else
      problems.push(
        `${label}:${i + 1}:${parsed.column}: ${parsed.message}\n  ${line}\n  ${' '.repeat(parsed.column - 1)}^`,
      );
  }
  if (problems.length > 0) throw new WhittleError('RUN_FILE', problems.join('\n'));
  return lines;
}

/** What is wrong with the `faults` of a run file. */
export function faultProblems({ faults, cluster }: RunFileDocument): Problem[] {
  const roles = { servers: cluster.servers, workers: largest(cluster.workers) };
  return (faults ?? []).flatMap((line, i) => {
    const parsed = parseFault(line, roles);
    return 'action' in parsed
      ? []
      : [{ path: ['faults', i], message: `faults.${i}, column ${parsed.column}: ${parsed.message}` }];
  });
}

/** A number of workers, or the upper end of a range such as `2:8`. */
function largest(workers: unknown): number {
  if (typeof workers === 'number') return workers;
  if (typeof workers === 'string') return Number(workers.split(':').at(-1));
  return (workers as { max: number }).max;
}

class LineError extends Error {
  readonly column: number;
  constructor(column: number, message: string) {
    super(message);
    this.column = column;
  }
}

interface Word {
  readonly text: string;
  readonly column: number;
}

class LineParser {
  readonly #words: readonly Word[];
  readonly #roles: FaultRoles;
  readonly #end: number;
  #next = 0;

  constructor(line: string, roles: FaultRoles) {
    this.#words = [...line.matchAll(/\S+/g)].map((match) => ({ text: match[0], column: match.index + 1 }));
    this.#roles = roles;
    this.#end = line.trimEnd().length + 1;
  }

  parse(): Fault {
    this.#keyword('at');
    const trigger = this.#choice(['step', 'failpoint']) === 'step' ? this.#step() : this.#failpoint();
    const action = this.#choice(ACTIONS);
    const target = this.#target();
    const milliseconds = action === 'kill' ? 0 : this.#duration();
    const rest = this.#words[this.#next];
    if (rest) throw new LineError(rest.column, `"${rest.text}" is too much; write ${GRAMMAR}`);
    return { trigger, action, target, milliseconds };
  }

  #step(): FaultTrigger {
    return { kind: 'step', step: this.#whole('a step') };
  }

  #failpoint(): FaultTrigger {
    const word = this.#take('the name of a failpoint');
    const names = Object.keys(FAILPOINTS);
    if (!names.includes(word.text)) {
      const near = nearest(word.text, names);
      throw new LineError(
        word.column,
        `no failpoint "${word.text}"; ${near === undefined ? `there are ${names.join(', ')}` : `did you mean ${near}?`}`,
      );
    }
    const name = word.text as FailpointName;
    let at: FaultTarget | null = null;
    let hit = 1;
    let step: number | null = null;
    for (let more = this.#optional(['of', 'hit', 'step']); more; more = this.#optional(['of', 'hit', 'step'])) {
      const place = this.#words[this.#next];
      if (more === 'hit') hit = this.#whole('a count', 1);
      else if (more === 'step') step = this.#whole('a step');
      else {
        at = this.#target();
        const { role } = FAILPOINTS[name];
        if (at.role !== role)
          throw new LineError(place?.column ?? this.#end, `${name} is passed by a ${role}, not by a ${at.role}`);
      }
    }
    return { kind: 'failpoint', name, hit, step, at };
  }

  #target(): FaultTarget {
    const { text, column } = this.#take('a role, such as scheduler, server[0] or worker[1]');
    const [, role, rank] = /^(scheduler|server|worker)(?:\[(\d+)\])?$/.exec(text) ?? [];
    if (role === undefined) throw new LineError(column, `no role "${text}"; write scheduler, server[0] or worker[1]`);
    if (role === 'scheduler') {
      if (rank !== undefined && Number(rank) > 0) throw new LineError(column, `there is one scheduler, not ${text}`);
      return { role, rank: 0 };
    }
    if (rank === undefined) throw new LineError(column, `which ${role}? write ${role}[0]`);
    const count = role === 'server' ? this.#roles.servers : this.#roles.workers;
    if (Number(rank) >= count) {
      throw new LineError(column, `the run has no ${text}: its ${role}s are ${role}[0] to ${role}[${count - 1}]`);
    }
    return { role: role as 'server' | 'worker', rank: Number(rank) };
  }

  #duration(): number {
    this.#keyword('for');
    const { text, column } = this.#take('a time, such as 500ms or 5s');
    const [, amount, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text) ?? [];
    if (amount === undefined) throw new LineError(column, `"${text}" is no time; write one such as 500ms, 5s or 1m`);
    const milliseconds = Number(amount) * UNITS[unit as keyof typeof UNITS];
    if (milliseconds <= 0 || milliseconds > MAX_MILLISECONDS) {
      throw new LineError(column, `${text} is not between 1ms and ${MAX_MILLISECONDS / UNITS.m}m`);
    }
    return milliseconds;
  }

  #whole(what: string, min = 0): number {
    const { text, column } = this.#take(what);
    if (!/^\d{1,15}$/.test(text) || Number(text) < min)
      throw new LineError(column, `"${text}" is not ${what} >= ${min}`);
    return Number(text);
  }

  #keyword(keyword: string): void {
    this.#choice([keyword]);
  }

  #choice<T extends string>(words: readonly T[]): T {
    const { text, column } = this.#take(words.join(' or '));
    if (!(words as readonly string[]).includes(text)) {
      throw new LineError(column, `"${text}" where ${words.join(' or ')} should be; write ${GRAMMAR}`);
    }
    return text as T;
  }

  #optional<T extends string>(words: readonly T[]): T | null {
    const word = this.#words[this.#next];
    if (!word || !(words as readonly string[]).includes(word.text)) return null;
    this.#next += 1;
    return word.text as T;
  }

  #take(what: string): Word {
    const word = this.#words[this.#next];
    if (!word) throw new LineError(this.#end, `the line ends where ${what} should be; write ${GRAMMAR}`);
    this.#next += 1;
    return word;
  }
}
