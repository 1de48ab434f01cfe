import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseRunConfig } from '../config/effective.ts';
import { announceInFiles } from './announcement-files.ts';
import type { CoordinationConfig } from '../config/types.ts';
import type {
  AnnouncedMember,
  Announcement,
  Coordinator,
  GenerationRecord,
  LatestCheckpoint,
  Leader,
} from './coordinator.ts';
import { EmbeddedCoordinator } from './embedded.ts';
import { readRunLock } from './lock.ts';
import { openCoordinator } from './open.ts';

/** How members, launchers and commands find the scheduler in office. */
export interface SchedulerFinder {
  /** Where the scheduler is now, `host:port`, or null; before there is one, the address that was given. */
  locate(): Promise<string | null>;
  /** Tells, until `close`, when another scheduler took office. */
  onSucceeded(heard: () => void): void;
  /** Says that a member takes part, for schedulers to come; withdrawn by `close`. Never rejects. */
  announce(member: AnnouncedMember): Promise<void>;
  close(): Promise<void>;
}

/** A finder by the run's coordinator. It never waits for a coordinator that is away: it answers what it was given. */
export async function openSchedulerFinder(runDirectory: string, given: string | null): Promise<SchedulerFinder> {
  const coordination = await coordinationOf(runDirectory);
  if (coordination === 'embedded') return new LockFinder(runDirectory, given);
  return new CoordinatorFinder(await openCoordinator(coordination, runDirectory), given);
}

/** The coordinator of a run, for who means to campaign in it. */
export async function openCoordinatorOf(runDirectory: string): Promise<Coordinator> {
  return openCoordinator(await coordinationOf(runDirectory), runDirectory);
}

/** Who is in office in a run, for those who only look; null: nobody. */
export async function leaderOf(runDirectory: string): Promise<Leader | null> {
  const coordination = await coordinationOf(runDirectory);
  if (coordination === 'embedded') return readRunLock(runDirectory);
  return look(coordination, runDirectory, (coordinator) => coordinator.leader());
}

/** What a run agrees on, for those who only look: changes nothing, holds nothing. */
export async function timelineOf(
  runDirectory: string,
): Promise<{ readonly latest: LatestCheckpoint | null; readonly lineage: readonly GenerationRecord[] }> {
  const coordination = await coordinationOf(runDirectory);
  if (coordination === 'embedded') return EmbeddedCoordinator.read(runDirectory);
  return look(coordination, runDirectory, async (coordinator) => ({
    latest: await coordinator.latest(),
    lineage: await coordinator.lineage(),
  }));
}

async function look<T>(
  coordination: CoordinationConfig,
  runDirectory: string,
  read: (coordinator: Coordinator) => Promise<T>,
): Promise<T> {
  const coordinator = await openCoordinator(coordination, runDirectory);
  try {
    return await read(coordinator);
  } finally {
    await coordinator.close();
  }
}

/** By the run's effective run file; a directory without a readable one has only its own files. */
export async function coordinationOf(runDirectory: string): Promise<CoordinationConfig> {
  const path = join(runDirectory, 'run.yaml');
  try {
    return parseRunConfig(await readFile(path, 'utf8'), path).coordination;
  } catch {
    return 'embedded';
  }
}

/** By the lock of the run directory: only a scheduler may open the journal there. */
class LockFinder implements SchedulerFinder {
  readonly #runDirectory: string;
  readonly #given: string | null;
  #announcement: Announcement | null = null;

  constructor(runDirectory: string, given: string | null) {
    this.#runDirectory = runDirectory;
    this.#given = given;
  }

  async locate(): Promise<string | null> {
    return (await readRunLock(this.#runDirectory).catch(() => null))?.address ?? this.#given;
  }

  /** A holder loses the lock only when it is dead, which its members see for themselves. */
  onSucceeded(): void {
    return;
  }

  async announce(member: AnnouncedMember): Promise<void> {
    await this.#announcement?.withdraw().catch(() => undefined);
    this.#announcement = await announceInFiles(this.#runDirectory, member).catch(() => null);
  }

  async close(): Promise<void> {
    await this.#announcement?.withdraw().catch(() => undefined);
  }
}

class CoordinatorFinder implements SchedulerFinder {
  readonly #coordinator: Coordinator;
  readonly #given: string | null;
  #announcement: Announcement | null = null;
  #unwatch: () => void = () => undefined;

  constructor(coordinator: Coordinator, given: string | null) {
    this.#coordinator = coordinator;
    this.#given = given;
  }

  async locate(): Promise<string | null> {
    return (await this.#coordinator.leader().catch(() => null))?.address ?? this.#given;
  }

  onSucceeded(heard: () => void): void {
    let token: string | null = null;
    this.#unwatch = this.#coordinator.watchLeader((leader) => {
      if (leader === null) return;
      if (token !== null && token !== leader.token) heard();
      token = leader.token;
    });
  }

  async announce(member: AnnouncedMember): Promise<void> {
    await this.#announcement?.withdraw().catch(() => undefined);
    this.#announcement = await this.#coordinator.announce(member).catch(() => null);
  }

  async close(): Promise<void> {
    this.#unwatch();
    await this.#coordinator.close();
  }
}
