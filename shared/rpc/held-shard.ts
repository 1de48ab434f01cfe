import { z } from 'zod';

const count = z.number().int().nonnegative();

const heldShardSchema = z.object({
  generation: count,
  clock: count,
  maskEpoch: count,
  /** Clock the shard is told to stop at, or null. */
  stopAt: count.nullable(),
  /** The newest mask commits, oldest first. `record`: JSON of the scheduler's CommitRecord, as it was sent. */
  commits: z.array(z.object({ step: count, maskEpoch: count, survivors: count, record: z.string() })),
});

/** What a server says of the shard it holds when it registers, so that a scheduler that takes over carries on from it. */
export type HeldShard = z.infer<typeof heldShardSchema>;
export type KeptCommit = HeldShard['commits'][number];

/** Null where the text is no such thing: the shard then counts as lost, and the run goes back to its checkpoint. */
export function parseHeldShard(text: string): HeldShard | null {
  if (text === '') return null;
  try {
    return heldShardSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
