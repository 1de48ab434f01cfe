import { WhittleError } from '../errors.ts';
import type { Role } from '../telemetry/run-status.ts';

/**
 * What a run agrees on outside any one process: which generation is in force, which checkpoint is the latest, which
 * scheduler is in office, and who takes part.
 *
 * Offices and announcements only say whom to ask; they end late, and a paused process may act after its own has
 * ended. What must not go wrong rests on generations and on the order in which the coordinator takes operations,
 * never on a clock. Every operation ends: it throws DEADLINE (retryable) where the coordinator cannot be reached.
 */
export interface Coordinator {
  /**
   * Takes the next generation by compare-and-set, together with the checkpoint its timeline starts from.
   * Guarantee: no two callers ever get the same number; each gets a higher one than all before; once it returns,
   * every `commitLatest` of an older generation is refused and `latest` is `from`. Durable when it returns.
   * Errors: RUN_LOCKED where this coordinator campaigned and its office has ended: nothing was taken.
   * @param from null: the timeline starts from initial values
   */
  takeGeneration(from: StartingPoint | null): Promise<number>;

  /**
   * Makes a checkpoint the latest, if its generation is still the one in force.
   * Guarantee: compared and set in one step; never moves backwards within a generation (a lower clock than the
   * latest's has no effect); idempotent. Durable when it returns.
   * Errors: STALE_GENERATION, or RUN_LOCKED where this coordinator campaigned and its office has ended; nothing changed.
   */
  commitLatest(latest: LatestCheckpoint): Promise<void>;

  /** The latest checkpoint, or null before the first. `generation` is the one in force when it became the latest. */
  latest(): Promise<LatestCheckpoint | null>;

  /** Every generation ever taken, in ascending order, each with what it started from. */
  lineage(): Promise<readonly GenerationRecord[]>;

  /**
   * Takes the scheduler's office. Resolves once it is ours.
   * Guarantee: of any number that campaign at most one holds the office at a time, as the coordinator sees it. One
   * whose process can be seen to be dead from here is succeeded at once; one that cannot be seen, when its lease ends.
   * Errors: RUN_LOCKED naming the holder, at once, unless `standby`; INTERRUPTED (or the reason) when `signal` aborts.
   */
  campaign(candidate: Candidate): Promise<Office>;

  /** Who is in office, or null. Of one that died without being seen, until its lease ends. */
  leader(): Promise<Leader | null>;

  /**
   * Calls `onChange` with the leader of now, soon, and again whenever another one (or none) is in office, until the
   * returned function is called. While the coordinator cannot be reached nothing is called.
   */
  watchLeader(onChange: (leader: Leader | null) => void): () => void;

  /**
   * Makes a member known for as long as its process lives. Another announcement of the same role and rank replaces
   * this one, whose `lost` is then aborted; the same when the lease ended without our renewing it (a paused process).
   */
  announce(member: AnnouncedMember): Promise<Announcement>;

  /** Who is announced, by role and rank. A member that died without being seen is listed until its lease ends. */
  members(): Promise<readonly AnnouncedMember[]>;

  /** Gives up the office and announcements that are still held, and ends what still waits. */
  close(): Promise<void>;
}

export interface StartingPoint {
  readonly clock: number;
  /** The checkpoint's folder name, such as `step-00000468-g1`. */
  readonly checkpoint: string;
}

export interface LatestCheckpoint {
  readonly generation: number;
  readonly clock: number;
  /** The checkpoint's folder name; the run directory may be mounted elsewhere on another host. */
  readonly folder: string;
}

export interface GenerationRecord {
  readonly generation: number;
  readonly from: StartingPoint | null;
}

export interface Candidate {
  /** Where we answer once in office, `host:port`. */
  readonly address: string;
  /** True: wait behind a living holder. Default false. */
  readonly standby?: boolean;
  /** Ends the waiting; an office once taken is not affected. */
  readonly signal?: AbortSignal;
  /** Told once, with the reason, when the office is not free. */
  readonly onWaiting?: (message: string) => void;
}

export interface Office {
  /** Differs at every taking, by whomever. */
  readonly token: string;
  /** Aborted when the office is no longer ours: stop acting as the scheduler. May come late; see Coordinator. */
  readonly lost: AbortSignal;
  /** Gives the office back, if it is still ours. Safe to call twice; never throws for a coordinator that is away. */
  resign(): Promise<void>;
}

export interface Leader {
  /** Where the scheduler answers, `host:port`. */
  readonly address: string;
  /** The office's token. */
  readonly token: string;
  readonly host: string;
  readonly pid: number;
  /** The generation in force; missing before the first. */
  readonly generation?: number;
}

export interface AnnouncedMember {
  readonly role: Role;
  readonly rank: number;
  /** Where it answers, `host:port`; empty where it does not listen. */
  readonly address: string;
  readonly host: string;
  readonly pid: number;
}

export interface Announcement {
  readonly lost: AbortSignal;
  /** Safe to call twice; never throws for a coordinator that is away. */
  withdraw(): Promise<void>;
}

export function staleGeneration({ folder, generation }: LatestCheckpoint, inForce: number): WhittleError {
  if (generation > inForce)
    return new WhittleError('INTERNAL', `generation ${generation} was never taken; ${inForce} is in force`);
  return new WhittleError(
    'STALE_GENERATION',
    `checkpoint ${folder} is of generation ${generation}, but ${inForce} is in force; leave the run to its new scheduler`,
    { data: { generation, inForce, folder } },
  );
}

export function officeLost(run: string): WhittleError {
  return new WhittleError(
    'RUN_LOCKED',
    `this scheduler's office over ${run} has ended; leave the run to its new scheduler`,
  );
}

export function announcementLost({ role, rank }: AnnouncedMember): WhittleError {
  return new WhittleError(
    'ROLE_LOST',
    `the announcement of ${role}[${rank}] has ended: another process took its place, or it was not renewed in time`,
    { retryable: true },
  );
}

/** By role, then rank. */
export function sortMembers(members: readonly AnnouncedMember[]): readonly AnnouncedMember[] {
  return members.toSorted((a, b) => (a.role === b.role ? a.rank - b.rank : a.role < b.role ? -1 : 1));
}
