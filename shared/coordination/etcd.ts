import type { EtcdConfig } from '../config/types.ts';
import { WhittleError } from '../errors.ts';
import {
  announcementLost,
  officeLost,
  sortMembers,
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
import { EtcdClient, type Condition, type Stored } from './etcd-client.ts';
import { holdKey, type HeldKey } from './etcd-held-key.ts';
import {
  GENERATION,
  generationKey,
  generationRecord,
  LATEST,
  latestRecord,
  memberKey,
  memberRecord,
  OFFICE,
  officeRecord,
  parse,
  type OfficeRecord,
} from './etcd-records.ts';
import { follow } from './follow.ts';
import { newToken } from './presence.ts';
import { livenessOf, thisProcess } from './process-identity.ts';

/** Watches tell of changes at once; looking anyway finds what a silent watch or an unseen death leaves untold. */
const LOOK_MILLISECONDS = 1_000;

export interface EtcdCoordinatorOptions {
  readonly config: EtcdConfig;
  readonly runId: string;
  /** Told when etcd has not answered for a while, again while it does not, and when it is back. */
  readonly onWaiting?: (message: string) => void;
}

/**
 * The coordinator of a run in an etcd cluster. Every operation that changes something is one transaction whose
 * conditions are the revisions it was decided on; where they fail, it is decided again.
 */
export class EtcdCoordinator implements Coordinator {
  readonly #client: EtcdClient;
  readonly #run: string;
  readonly #leaseSeconds: number;
  /** The last office we campaigned for; its key's revision of creation is unlike that of any other taking. */
  #office: { readonly createRevision: string; readonly held: HeldKey } | null = null;
  readonly #held = new Set<HeldKey>();

  /** Connects to nothing yet. Errors: RUN_FILE. */
  constructor({ config, runId, onWaiting }: EtcdCoordinatorOptions) {
    const prefix = `${config.prefix}/${runId}/`;
    this.#client = new EtcdClient({ config, prefix, ...(onWaiting === undefined ? {} : { onWaiting }) });
    this.#run = runId;
    this.#leaseSeconds = config.leaseSeconds;
  }

  /**
   * Atomic: one transaction writes the generation in force, its record and what is the latest, if the generation in
   * force is still the one before and the office we campaigned for is still ours. A number that was taken while the
   * answer got lost is known again by its id.
   */
  takeGeneration(from: StartingPoint | null): Promise<number> {
    const id = newToken();
    return this.#client.run('take a generation', async () => {
      for (;;) {
        const { found } = await this.#client.read(GENERATION, OFFICE);
        const current = parse(GENERATION, generationRecord, found[0]);
        if (current?.id === id) return current.generation;
        this.#requireOffice(found[1]);
        const generation = (current?.generation ?? 0) + 1;
        const record = JSON.stringify({ generation, id, from });
        const taken = await this.#client.transact(
          [unchanged(GENERATION, found[0]), ...this.#officeIsOurs()],
          [
            { put: GENERATION, value: record },
            { put: generationKey(generation), value: record },
            from === null
              ? { remove: LATEST }
              : { put: LATEST, value: JSON.stringify({ generation, clock: from.clock, folder: from.checkpoint }) },
          ],
        );
        if (taken) return generation;
      }
    });
  }

  /**
   * Atomic: one transaction writes the latest, if the generation in force is still its own, no other latest was
   * written since it was compared, and the office we campaigned for is still ours.
   */
  commitLatest(latest: LatestCheckpoint): Promise<void> {
    const { generation, clock, folder } = latest;
    return this.#client.run(`make ${folder} the latest checkpoint`, async () => {
      for (;;) {
        const { found } = await this.#client.read(GENERATION, LATEST, OFFICE);
        const inForce = parse(GENERATION, generationRecord, found[0])?.generation ?? 0;
        if (generation !== inForce) throw staleGeneration(latest, inForce);
        this.#requireOffice(found[2]);
        if (clock < (parse(LATEST, latestRecord, found[1])?.clock ?? 0)) return;
        const written = await this.#client.transact(
          [unchanged(GENERATION, found[0]), unchanged(LATEST, found[1]), ...this.#officeIsOurs()],
          [{ put: LATEST, value: JSON.stringify({ generation, clock, folder }) }],
        );
        if (written) return;
      }
    });
  }

  latest(): Promise<LatestCheckpoint | null> {
    return this.#client.run('read the latest checkpoint', async () => {
      const { found } = await this.#client.read(LATEST);
      return parse(LATEST, latestRecord, found[0]);
    });
  }

  lineage(): Promise<readonly GenerationRecord[]> {
    return this.#client.run('read the generations', async () => {
      const all = await this.#client.readAll('generations/');
      return all.map((each) => {
        const { generation, from } = parse('generations/', generationRecord, each);
        return { generation, from };
      });
    });
  }

  async campaign({ address, standby = false, signal, onWaiting }: Candidate): Promise<Office> {
    const own: OfficeRecord = {
      ...(await thisProcess()),
      address,
      takenAt: new Date().toISOString(),
      id: newToken(),
    };
    const ended = signal === undefined ? this.#client.closing : AbortSignal.any([signal, this.#client.closing]);
    const options = { signal: ended };
    for (let hasTold = false; ;) {
      const taken = await this.#client.run('take the office', () => this.#takeOffice(own), options);
      const { holder, found } = taken;
      if (holder.id === own.id) {
        const held = this.#hold(OFFICE, found.lease, () => officeLost(this.#run));
        this.#office = { createRevision: found.createRevision, held };
        return { token: found.createRevision, lost: held.lost, resign: () => this.#release(held) };
      }
      if ((await livenessOf(holder)) === 'dead') {
        await this.#client.run('remove the dead from office', () => this.#removeFromOffice(found), options);
        continue;
      }
      if (!standby) throw this.#lockedBy(holder);
      if (!hasTold) onWaiting?.(`standing by: ${this.#lockedBy(holder).rawMessage}`);
      hasTold = true;
      await this.#client.changed(OFFICE, found.modRevision, LOOK_MILLISECONDS, ended);
    }
  }

  leader(): Promise<Leader | null> {
    return this.#client.run('find the scheduler', async () => (await this.#readLeader()).leader);
  }

  watchLeader(onChange: (leader: Leader | null) => void): () => void {
    const stop = follow({
      read: (signal) => this.#client.run('find the scheduler', () => this.#readLeader(), { signal }),
      changed: ({ revision }, signal) => this.#client.changed(OFFICE, revision, LOOK_MILLISECONDS, signal),
      identity: ({ leader }) => leader?.token ?? '',
      onChange: ({ leader }) => onChange(leader),
    });
    this.#client.closing.addEventListener('abort', stop, { once: true });
    return () => {
      this.#client.closing.removeEventListener('abort', stop);
      stop();
    };
  }

  async announce({ role, rank, address, host, pid }: AnnouncedMember): Promise<Announcement> {
    const member = { role, rank, address, host, pid };
    const key = memberKey(role, rank);
    const value = JSON.stringify({ ...member, process: await thisProcess() });
    const lease = await this.#client.run(`announce ${role}[${rank}]`, () => this.#putMember(key, value));
    const held = this.#hold(key, lease, () => announcementLost(member));
    return { lost: held.lost, withdraw: () => this.#release(held) };
  }

  members(): Promise<readonly AnnouncedMember[]> {
    return this.#client.run('read the members', async () => {
      const found: AnnouncedMember[] = [];
      for (const each of await this.#client.readAll('members/')) {
        const { process, ...member } = parse('members/', memberRecord, each);
        if ((await livenessOf(process)) !== 'dead') found.push(member);
      }
      return sortMembers(found);
    });
  }

  async close(): Promise<void> {
    await Promise.all([...this.#held].map((held) => held.release()));
    this.#client.close();
  }

  /**
   * Atomic: one transaction creates the office's key, if it is not there, bound to a new lease. So at any revision
   * of etcd the key has one creator at most. Answers who holds it: we, if the id is ours, also where the answer to an
   * earlier attempt got lost.
   */
  async #takeOffice(own: OfficeRecord): Promise<{ holder: OfficeRecord; found: Stored }> {
    for (;;) {
      let [found] = (await this.#client.read(OFFICE)).found;
      if (found === null) {
        const lease = await this.#client.grantLease(this.#leaseSeconds);
        await this.#client.transact(
          [{ key: OFFICE, column: 'Create', is: '0' }],
          [{ put: OFFICE, value: JSON.stringify(own), lease }],
        );
        [found] = (await this.#client.read(OFFICE)).found;
        if (found?.lease !== lease) await this.#client.revokeLease(lease);
      }
      if (found !== null) return { holder: parse(OFFICE, officeRecord, found), found };
    }
  }

  /**
   * Atomic: removes the office's key, if it is still the one that was found. Its process is dead and cannot come
   * back, so nobody needs to wait for the end of its lease.
   */
  async #removeFromOffice({ createRevision }: Stored): Promise<void> {
    await this.#client.transact([{ key: OFFICE, column: 'Create', is: createRevision }], [{ remove: OFFICE }]);
  }

  /** Atomic: one put, bound to a new lease; the last one to announce a role and rank is the one announced. */
  async #putMember(key: string, value: string): Promise<string> {
    const lease = await this.#client.grantLease(this.#leaseSeconds);
    await this.#client.transact([], [{ put: key, value, lease }]);
    return lease;
  }

  #hold(key: string, lease: string, whenLost: () => WhittleError): HeldKey {
    const held = holdKey({ client: this.#client, key, lease, leaseSeconds: this.#leaseSeconds, whenLost });
    this.#held.add(held);
    return held;
  }

  async #release(held: HeldKey): Promise<void> {
    await held.release();
    this.#held.delete(held);
  }

  async #readLeader(): Promise<{ leader: Leader | null; revision: string }> {
    const { found, revision } = await this.#client.read(OFFICE, GENERATION);
    const holder = parse(OFFICE, officeRecord, found[0]);
    if (holder === null || (await livenessOf(holder)) === 'dead') return { leader: null, revision };
    const { address, host, pid } = holder;
    const generation = parse(GENERATION, generationRecord, found[1])?.generation;
    const leader: Leader = {
      address,
      token: found[0]!.createRevision,
      host,
      pid,
      ...(generation === undefined ? {} : { generation }),
    };
    return { leader, revision };
  }

  #officeIsOurs(): readonly Condition[] {
    return this.#office === null ? [] : [{ key: OFFICE, column: 'Create', is: this.#office.createRevision }];
  }

  #requireOffice(found: Stored | null): void {
    if (this.#office !== null && found?.createRevision !== this.#office.createRevision) throw officeLost(this.#run);
  }

  #lockedBy(holder: OfficeRecord): WhittleError {
    const { host, pid, address, takenAt } = holder;
    return new WhittleError(
      'RUN_LOCKED',
      `run ${this.#run} is held by the scheduler with pid ${pid} on host ${host} (at ${address}, since ${takenAt}); ` +
        `end it with 'whittle stop', or, if that host is gone, try again ${this.#leaseSeconds} s after its end`,
      { data: { holder } },
    );
  }
}

function unchanged(key: string, found: Stored | null): Condition {
  return { key, column: 'Mod', is: found?.modRevision ?? '0' };
}
