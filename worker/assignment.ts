import type { Assignment__Output } from '../protos/generated/whittle/Assignment.ts';
import type { Pulse } from './pulse.ts';

/** The slices this worker computes: the newest assignment it was told, until it leaves. */
export class SliceAssignment {
  readonly #news: Pulse;
  #version = -1;
  #slices: readonly number[] = [];
  #backups: readonly number[] = [];
  #leaving = false;

  constructor(news: Pulse) {
    this.#news = news;
  }

  get isEmpty(): boolean {
    return this.#slices.length === 0 && this.#backups.length === 0;
  }

  /** It was told to leave: the slice under way is its last. */
  get leaving(): boolean {
    return this.#leaving;
  }

  /** Takes a newer assignment; an older one, late on its way, changes nothing. */
  set({ version, slices, backups }: Pick<Assignment__Output, 'version' | 'slices' | 'backups'>): void {
    if (version < this.#version) return;
    this.#version = version;
    this.#slices = slices;
    this.#backups = backups;
    this.#news.beat();
  }

  /** Another session: its scheduler counts versions anew. */
  forgetVersion(): void {
    this.#version = -1;
  }

  leave(): void {
    this.#leaving = true;
    this.#news.beat();
  }

  /** The next slice to compute in a step in which `done` are: the own ones in order, then those to back up. */
  next(done: ReadonlySet<number>): number | undefined {
    if (this.#leaving) return undefined;
    return this.#slices.find((slice) => !done.has(slice)) ?? this.#backups.find((slice) => !done.has(slice));
  }

  /** Whether an own slice is left in the step. */
  hasOwn(done: ReadonlySet<number>): boolean {
    return this.#slices.some((slice) => !done.has(slice));
  }
}
