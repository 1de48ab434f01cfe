import { WhittleError } from '../../../shared/errors.ts';
import { plural } from '../../../shared/plural.ts';
import { withDeadline } from '../../../shared/rpc/deadline.ts';
import { Signal } from '../signal.ts';
import type { RunOptions } from './run-options.ts';

/** How long a run that needs fewer workers than it may have waits for more before it begins. */
const LAST_CALL_MS = 3_000;
const GATHER_MS = 120_000;
const DESCRIBE_MS = 300_000;

export interface GatheringOptions extends Pick<RunOptions, 'config' | 'members' | 'progress' | 'after' | 'takeover'> {
  /** Workers that have built the model. */
  readonly described: () => number;
  readonly signal: AbortSignal;
}

/** Waits for the members that a generation begins with. */
export class Gathering {
  readonly #options: GatheringOptions;
  readonly #gathered = new Signal<void>();
  readonly #described = new Signal<void>();
  #isLastCall = false;

  constructor(options: GatheringOptions) {
    this.#options = options;
  }

  /** Resolves when the members are there. */
  async all(): Promise<void> {
    const { config, progress, signal } = this.#options;
    const { servers, workers } = config.cluster;
    progress.say(`waiting for ${plural(servers, 'server')} and ${plural(workers.max, 'worker')}`);
    const lastCall = setTimeout(() => {
      this.#isLastCall = true;
      this.check();
    }, LAST_CALL_MS);
    try {
      await waitFor(this.#gathered, { milliseconds: GATHER_MS, what: () => this.missing(), signal });
    } finally {
      clearTimeout(lastCall);
    }
  }

  /** Resolves when enough workers have said what they built. Errors: ROLE_LOST where a server is gone by then. */
  async descriptions(): Promise<void> {
    const { config, members, progress, signal } = this.#options;
    progress.say('workers load the data and build the model');
    const what = (): string => 'the workers to load the data and build the model';
    await waitFor(this.#described, { milliseconds: DESCRIBE_MS, what, signal });
    if (members.count('server') < config.cluster.servers)
      throw new WhittleError('ROLE_LOST', `a server was lost before training began; ${this.missing()}`);
  }

  /** To be called whenever a member came or described its model. */
  check(): void {
    const { config, members, takeover, described } = this.#options;
    const { servers, workers } = config.cluster;
    const enough = (count: number): boolean => count === workers.max || (this.#isLastCall && count >= workers.min);
    const hasServers = members.count('server') === servers;
    // Who takes over must not wait for workers: the servers hold the run.
    const patient = takeover !== null && this.#isLastCall;
    if (hasServers && (patient || enough(members.count('worker')))) this.#gathered.set();
    if (this.#gathered.isSet && enough(described())) this.#described.set();
  }

  /** Who has registered, and why the others did not. */
  missing(): string {
    const { config, members, after } = this.#options;
    const { servers, workers } = config.cluster;
    const notReplaced = after ? `; ${after.rawMessage}, and was not replaced` : '';
    return `members: ${members.count('server')} of ${plural(servers, 'server')} and ${members.count('worker')} of ${plural(workers.max, 'worker')} have registered${notReplaced}`;
  }
}

/** `what` is asked when the time is over, and completes "waited 3 s for ...". Errors: DEADLINE. */
export function waitFor<T>(
  awaited: Signal<T>,
  options: { readonly milliseconds: number; readonly what: () => string; readonly signal: AbortSignal },
): Promise<T> {
  const { milliseconds, what, signal } = options;
  return withDeadline(awaited.value, milliseconds, '', signal).catch((reason: unknown) => {
    if (reason instanceof WhittleError && reason.code === 'DEADLINE') {
      throw new WhittleError('DEADLINE', `waited ${milliseconds / 1000} s for ${what()}`);
    }
    throw reason;
  });
}
