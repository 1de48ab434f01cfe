import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { type HeldShard, parseHeldShard } from '../../shared/rpc/held-shard.ts';
import type { Member } from './members.ts';
import type { CommitRecord } from './pruning-controller.ts';

/** What a scheduler that takes over learns from the servers. */
export interface Adoption {
  readonly servers: readonly { readonly rank: number; readonly kept: HeldShard }[];
  /** The lowest clock of a server. */
  readonly clock: number;
  /** Mask commits that all servers have, oldest first, with the survivors of each shard. */
  readonly commits: readonly { readonly record: CommitRecord; readonly survivors: readonly number[] }[];
  /** A commit that some servers have and others do not: it goes to the others unchanged. */
  readonly unfinished: CommitRecord | null;
  /** Clock that a server was told to stop at, or null. */
  readonly stopAt: number | null;
}

/** Null where a server lost its shard, or no checkpoint tells what the model is: the run then goes back. */
export function adoptionOf(
  members: readonly Pick<Member, 'rank' | 'heldGeneration' | 'heldShard'>[],
  generation: number,
  latest: Manifest | null,
): Adoption | null {
  if (latest === null) return null;
  const servers: { rank: number; kept: HeldShard }[] = [];
  for (const { rank, heldGeneration, heldShard } of members) {
    const kept = heldGeneration === generation ? parseHeldShard(heldShard) : null;
    if (kept?.generation !== generation) return null;
    servers.push({ rank, kept });
  }
  const epochs = [...new Set(servers.flatMap(({ kept }) => kept.commits.map(({ maskEpoch }) => maskEpoch)))];
  const commits: { record: CommitRecord; survivors: readonly number[] }[] = [];
  let unfinished: CommitRecord | null = null;
  for (const epoch of epochs.sort((a, b) => a - b)) {
    const kept = servers.map(({ kept }) => kept.commits.find(({ maskEpoch }) => maskEpoch === epoch));
    const text = kept.find((each) => each !== undefined)?.record ?? '';
    const record = JSON.parse(text) as CommitRecord;
    if (kept.every((each) => each !== undefined)) commits.push({ record, survivors: kept.map((each) => each.survivors) });
    // Servers keep a few commits; only the newest can be missing because it never arrived.
    else if (epoch === epochs.at(-1)) unfinished = record;
  }
  const stops = servers.flatMap(({ kept }) => (kept.stopAt === null ? [] : [kept.stopAt]));
  return {
    servers,
    clock: Math.min(...servers.map(({ kept }) => kept.clock)),
    commits,
    unfinished,
    stopAt: stops.length === 0 ? null : Math.max(...stops),
  };
}
