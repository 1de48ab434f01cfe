import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { CheckpointCommitter as RealCommitter } from '../../server/scheduler/checkpoint-committer.ts';
import { checkpointName } from '../../shared/checkpoint/manifest-file.ts';
import type { Manifest, ShardEntry } from '../../shared/checkpoint/manifest.ts';
import type { CheckpointStore } from '../../shared/checkpoint/store.ts';
import type { Coordinator, LatestCheckpoint, StartingPoint } from '../../shared/coordination/coordinator.ts';
import type { EmbeddedCoordinator as RealCoordinator } from '../../shared/coordination/embedded.ts';
import { WhittleError } from '../../shared/errors.ts';
import { CUTS, SERVERS } from './explorer-job.ts';
import { Memo } from './explorer-memo.ts';

/** What reaches a committer: parts, and the ends of what it asked of store and coordinator. */
export type CommitterInput =
  | {
      readonly op: 'part';
      readonly server: number;
      readonly clock: number;
      readonly maskEpoch: number;
      readonly snapshot: string;
    }
  | { readonly op: 'published' }
  | { readonly op: 'latest'; readonly held: boolean };

/** What it waits for; only one thing at a time. */
export type CommitterWait =
  | { readonly op: 'publish'; readonly clock: number; readonly maskEpoch: number; readonly parts: readonly string[] }
  | { readonly op: 'latest'; readonly clock: number };

export interface CommitterView {
  readonly generation: number;
  readonly waits: CommitterWait | null;
  /** Clock of what it has committed last, -1: nothing. */
  readonly committed: number;
  /** What is not committed: clocks by when their last part came, then the parts in any order. */
  readonly whole: readonly number[];
  readonly parts: readonly string[];
}

class CommitterMachine {
  readonly committer: RealCommitter;
  waits: CommitterWait | null = null;
  readonly committed: number[] = [];
  #go: (error?: WhittleError) => void = () => undefined;

  constructor(Committer: typeof RealCommitter, generation: number) {
    const ask = (waits: CommitterWait): Promise<void> =>
      new Promise((resolve, reject) => {
        this.waits = waits;
        this.#go = (error) => (error ? reject(error) : resolve());
      });
    const store: Pick<CheckpointStore, 'folderName' | 'publish' | 'retain'> = {
      folderName: checkpointName,
      publish: ({ clock, maskEpoch, shards }: Manifest) =>
        ask({ op: 'publish', clock, maskEpoch, parts: shards.map(({ sha256 }) => sha256) }),
      retain: () => Promise.resolve([]),
    };
    const coordinator: Pick<Coordinator, 'commitLatest' | 'lineage'> = {
      commitLatest: ({ clock }) => ask({ op: 'latest', clock }),
      lineage: () => Promise.resolve([]),
    };
    this.committer = new Committer({
      store: store as CheckpointStore,
      coordinator: coordinator as Coordinator,
      generation,
      servers: SERVERS,
      needed: () => [],
      keep: 9,
      after: -1,
      describe: () => ({}) as ReturnType<ConstructorParameters<typeof RealCommitter>[0]['describe']>,
      beforeCommit: () => Promise.resolve(),
      onCommitted: ({ clock }) => this.committed.push(clock),
      warn: () => undefined,
      onFailed: () => undefined,
    });
  }

  async feed(input: CommitterInput): Promise<void> {
    if (input.op === 'part') {
      const { server, clock, maskEpoch, snapshot } = input;
      const entry = {
        file: '',
        start: CUTS[server]!,
        end: CUTS[server + 1]!,
        bytes: 0,
        sha256: snapshot,
        hasState: false,
      };
      this.committer.shardWritten(server, clock, maskEpoch, entry satisfies ShardEntry);
    } else {
      this.waits = null;
      const stale = input.op === 'latest' && !input.held;
      this.#go(stale ? new WhittleError('STALE_GENERATION', 'a newer one is in force') : undefined);
    }
    await nextTurn();
  }
}

/** All states of the committer of one generation. */
export function committerMemo(
  Committer: typeof RealCommitter,
  generation: number,
): Memo<CommitterInput, CommitterMachine, CommitterView> {
  return new Memo({
    create: () => new CommitterMachine(Committer, generation),
    feed: (machine, input) => machine.feed(input),
    look: ({ waits, committed }, inputs) => {
      const last = Math.max(-1, ...committed);
      const parts = inputs.filter((each) => each.op === 'part').filter(({ clock }) => clock > last);
      return {
        generation,
        waits,
        committed: last,
        whole: parts.flatMap(({ clock }, i) => (parts.slice(0, i).some((each) => each.clock === clock) ? [clock] : [])),
        parts: parts.map(({ server, clock, snapshot }) => `${server} ${clock} ${snapshot}`).sort(),
      };
    },
  });
}

export type JournalInput =
  | { readonly op: 'take'; readonly from: StartingPoint | null }
  | { readonly op: 'commit'; readonly generation: number; readonly clock: number };

export interface JournalView {
  readonly generation: number;
  readonly from: StartingPoint | null;
  readonly latest: LatestCheckpoint | null;
}

/** All states of the coordinator's journal, each in a file of its own. */
export function journalMemo(
  Coordinator: typeof RealCoordinator,
): Memo<JournalInput, { coordinator: RealCoordinator; folder: string }, JournalView> {
  return new Memo({
    create: async () => {
      const folder = mkdtempSync(join(tmpdir(), 'whittle-explorer-'));
      return { folder, coordinator: await Coordinator.open(folder) };
    },
    feed: async ({ coordinator }, input) => {
      if (input.op === 'take') await coordinator.takeGeneration(input.from);
      else {
        const { generation, clock } = input;
        await coordinator.commitLatest({ generation, clock, folder: checkpointName(clock, generation) });
      }
    },
    look: async ({ coordinator }) => {
      const last = (await coordinator.lineage()).at(-1);
      return { generation: last?.generation ?? 0, from: last?.from ?? null, latest: await coordinator.latest() };
    },
    dispose: async ({ coordinator, folder }) => {
      await coordinator.close();
      await rm(folder, { recursive: true, force: true });
    },
  });
}
