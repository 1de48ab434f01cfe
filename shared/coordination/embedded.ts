import { WhittleError } from '../errors.ts';
import { pause } from '../rpc/deadline.ts';
import { announceInFiles, membersInFiles } from './announcement-files.ts';
import {
  officeLost,
  staleGeneration,
  type AnnouncedMember,
  type Announcement,
  type Candidate,
  type Coordinator,
  type GenerationRecord,
  type LatestCheckpoint,
  type Leader,
  type Office,
  type StartingPoint,
} from './coordinator.ts';
import { follow } from './follow.ts';
import { Journal } from './journal.ts';
import { acquireRunLock, readRunLock, type RunLock } from './lock.ts';
import { newToken } from './presence.ts';

/** File systems of clusters do not tell of changes; looking this often costs next to nothing. */
const LOOK_MILLISECONDS = 250;

interface JournalView {
  readonly latest: LatestCheckpoint | null;
  readonly lineage: readonly GenerationRecord[];
}

/**
 * The coordinator of a run without a service: files in the run directory. The journal keeps generations and the
 * latest checkpoint, `run.lock` the office, `members/` the announcements.
 */
export class EmbeddedCoordinator implements Coordinator {
  readonly #runDirectory: string;
  readonly #journal: Journal;
  #lock: RunLock | null = null;
  readonly #announcements = new Set<Announcement>();
  readonly #closing = new AbortController();
  /** Operations on the journal run one after another. */
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(runDirectory: string) {
    this.#runDirectory = runDirectory;
    this.#journal = new Journal(runDirectory);
  }

  /** Nothing is written before the first operation that writes. Errors: CHECKPOINT for a damaged journal; DISK. */
  static async open(runDirectory: string): Promise<EmbeddedCoordinator> {
    const coordinator = new EmbeddedCoordinator(runDirectory);
    try {
      await coordinator.#journal.read();
    } catch (error) {
      await coordinator.close();
      throw error;
    }
    return coordinator;
  }

  /** What a run's journal says now, for those who only look: changes nothing, needs no lock. */
  static async read(runDirectory: string): Promise<JournalView> {
    const coordinator = await EmbeddedCoordinator.open(runDirectory);
    try {
      return { latest: await coordinator.latest(), lineage: await coordinator.lineage() };
    } finally {
      await coordinator.close();
    }
  }

  /**
   * Atomic: one journal entry, decided by its place in the journal. Tries again with a higher number after a lost
   * race. That the office is still ours is looked up right before, not in the same step: where another scheduler
   * takes it in between, its generation is the higher one.
   */
  takeGeneration(from: StartingPoint | null): Promise<number> {
    return this.#serialized(async () => {
      await this.#journal.read();
      await this.#requireOffice();
      for (;;) {
        const generation = this.#journal.inForce + 1;
        if (await this.#journal.append({ op: 'generation', id: newToken(), generation, from })) return generation;
      }
    });
  }

  /** Atomic: one journal entry, which holds only if no newer generation precedes it in the journal. */
  commitLatest(latest: LatestCheckpoint): Promise<void> {
    return this.#serialized(async () => {
      await this.#journal.read();
      const { generation, clock, folder } = latest;
      if (generation !== this.#journal.inForce) throw staleGeneration(latest, this.#journal.inForce);
      await this.#requireOffice();
      const held = await this.#journal.append({ op: 'latest', id: newToken(), generation, clock, folder });
      if (!held) throw staleGeneration(latest, this.#journal.inForce);
    });
  }

  latest(): Promise<LatestCheckpoint | null> {
    return this.#serialized(async () => {
      await this.#journal.read();
      return this.#journal.latest;
    });
  }

  lineage(): Promise<readonly GenerationRecord[]> {
    return this.#serialized(async () => {
      await this.#journal.read();
      return [...this.#journal.generations];
    });
  }

  /** Atomic: `acquireRunLock`, again whenever the lock is seen to be free. */
  async campaign({ address, standby = false, signal, onWaiting }: Candidate): Promise<Office> {
    const ended = signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal]);
    for (let hasTold = false; ;) {
      try {
        const lock = await acquireRunLock(this.#runDirectory, { address });
        this.#lock = lock;
        return { token: lock.holder.token, lost: lock.lost, resign: () => lock.release().catch(() => undefined) };
      } catch (reason) {
        if (!standby || !(reason instanceof WhittleError) || reason.code !== 'RUN_LOCKED') throw reason;
        if (!hasTold) onWaiting?.(`standing by: ${reason.rawMessage}`);
        hasTold = true;
      }
      do await pause(LOOK_MILLISECONDS, `the office over ${this.#runDirectory}`, ended);
      while ((await readRunLock(this.#runDirectory)) !== null);
    }
  }

  async leader(): Promise<Leader | null> {
    const holder = await readRunLock(this.#runDirectory);
    if (holder === null) return null;
    const { address, token, host, pid } = holder;
    const generation = (await this.lineage()).at(-1)?.generation;
    return { address, token, host, pid, ...(generation === undefined ? {} : { generation }) };
  }

  watchLeader(onChange: (leader: Leader | null) => void): () => void {
    const stop = follow({
      read: () => this.leader(),
      changed: (_, signal) => pause(LOOK_MILLISECONDS, 'another scheduler', signal),
      identity: (leader) => leader?.token ?? '',
      onChange,
    });
    this.#closing.signal.addEventListener('abort', stop, { once: true });
    return () => {
      this.#closing.signal.removeEventListener('abort', stop);
      stop();
    };
  }

  /** Atomic: one rename. */
  async announce(member: AnnouncedMember): Promise<Announcement> {
    const announcement = await announceInFiles(this.#runDirectory, member);
    this.#announcements.add(announcement);
    return announcement;
  }

  members(): Promise<readonly AnnouncedMember[]> {
    return membersInFiles(this.#runDirectory);
  }

  async close(): Promise<void> {
    this.#closing.abort(new WhittleError('INTERRUPTED', 'the coordinator was closed'));
    for (const announcement of this.#announcements) await announcement.withdraw();
    await this.#lock?.release().catch(() => undefined);
    await this.#queue;
    await this.#journal.close();
  }

  async #requireOffice(): Promise<void> {
    if (this.#lock !== null && !(await this.#lock.isOurs())) throw officeLost(this.#runDirectory);
  }

  #serialized<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(operation, operation);
    this.#queue = result.catch(() => undefined);
    return result;
  }
}
