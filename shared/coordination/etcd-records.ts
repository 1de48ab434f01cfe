import { z } from 'zod';
import { WhittleError } from '../errors.ts';
import type { Stored } from './etcd-client.ts';

/*
 * What a run keeps in etcd, below `<prefix>/<run id>/`: JSON by key.
 */

export const GENERATION = 'generation';
export const LATEST = 'latest';
export const OFFICE = 'office';
export const generationKey = (generation: number): string => `generations/${String(generation).padStart(10, '0')}`;
export const memberKey = (role: string, rank: number): string => `members/${role}/${rank}`;

const count = z.number().int().nonnegative();
const identity = { host: z.string(), pid: z.number().int(), processStart: z.string(), pidSpace: z.string() };

/** Of `generation` (the one in force) and of each of `generations/`. `id`: of the call that took it. */
export const generationRecord = z.object({
  generation: count,
  id: z.string(),
  from: z.object({ clock: count, checkpoint: z.string() }).nullable(),
});
export const latestRecord = z.object({ generation: count, clock: count, folder: z.string() });
/** `id`: of the campaign that took it. */
export const officeRecord = z.object({ ...identity, address: z.string(), takenAt: z.string(), id: z.string() });
export type OfficeRecord = z.infer<typeof officeRecord>;
/** `process`: the one that renews the lease. */
export const memberRecord = z.object({
  role: z.enum(['scheduler', 'server', 'worker']),
  rank: count,
  address: z.string(),
  host: z.string(),
  pid: z.number().int(),
  process: z.object(identity),
});

/** Errors: CHECKPOINT for a value that is not ours. */
export function parse<T, F extends Stored | null>(
  key: string,
  schema: z.ZodType<T>,
  found: F,
): T | (F extends null ? null : never) {
  if (found === null) return null as F extends null ? null : never;
  const result = schema.safeParse(parseJson(found.value));
  if (result.success) return result.data;
  throw new WhittleError(
    'CHECKPOINT',
    `etcd's value of ${key} is not Whittle's: ${found.value.slice(0, 100)}; use another coordination.etcd.prefix`,
    { data: { key } },
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
