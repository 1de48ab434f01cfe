import type { Member, Members } from './members.ts';
import { backupSlices, reassignSlices } from './slices.ts';

export interface SliceDeskOptions {
  readonly members: Members;
  readonly slices: number;
  readonly backupWorkers: number;
  /** Told of every new assignment. */
  readonly onAssigned: (assignment: ReadonlyMap<number, readonly number[]>) => void;
}

/** Who computes which slices: assigns them anew whenever a worker comes or goes, and tells the workers. */
export class SliceDesk {
  readonly #options: SliceDeskOptions;
  readonly #working = new Map<number, Member>();
  #assignment = new Map<number, readonly number[]>();
  #version = 0;

  constructor(options: SliceDeskOptions) {
    this.#options = options;
  }

  get workers(): number {
    return this.#working.size;
  }

  slicesOf(worker: number): readonly number[] {
    return this.#assignment.get(worker) ?? [];
  }

  has(member: Member): boolean {
    return this.#working.get(member.rank) === member;
  }

  /** Takes workers in and answers the assignment that each begins with; the others are told theirs. */
  add(members: readonly Member[], fromStep: number): void {
    for (const member of members) this.#working.set(member.rank, member);
    this.#assign(fromStep);
  }

  /** Hands the slices of a worker over to the others. False where it had none to hand over. */
  remove(rank: number, fromStep: number): boolean {
    const had = this.slicesOf(rank).length > 0;
    if (!this.#working.delete(rank)) return false;
    this.#assign(fromStep);
    return had;
  }

  get assignment(): ReadonlyMap<number, readonly number[]> {
    return this.#assignment;
  }

  /** Moves one slice; everyone is told. */
  move(slice: number, from: number, to: number, fromStep: number): void {
    const moved = new Map(this.#assignment);
    moved.set(
      from,
      this.slicesOf(from).filter((each) => each !== slice),
    );
    moved.set(
      to,
      [...this.slicesOf(to), slice].sort((a, b) => a - b),
    );
    this.#tell(moved, fromStep);
  }

  /** What a worker is told. */
  messageFor(
    rank: number,
    fromStep: number,
  ): {
    version: number;
    slices: number[];
    backups: number[];
    fromStep: number;
  } {
    const { backupWorkers } = this.#options;
    const order = [...this.#working.keys()].sort((a, b) => a - b);
    const backups = backupSlices(this.#assignment, backupWorkers, order).get(rank) ?? [];
    return { version: this.#version, slices: [...this.slicesOf(rank)], backups: [...backups], fromStep };
  }

  #assign(fromStep: number): void {
    const workers = [...this.#working.keys()].sort((a, b) => a - b);
    this.#tell(reassignSlices(this.#options.slices, workers, this.#assignment), fromStep);
  }

  #tell(assignment: Map<number, readonly number[]>, fromStep: number): void {
    const { members, onAssigned } = this.#options;
    this.#assignment = assignment;
    this.#version += 1;
    onAssigned(this.#assignment);
    for (const member of this.#working.values())
      members.send(member, { assignment: this.messageFor(member.rank, fromStep) });
  }
}
