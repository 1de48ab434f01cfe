import { WhittleError } from '../errors.ts';

/** Cut points are multiples of this, so that reductions and bitmaps never split a block. */
export const SHARD_ALIGNMENT = 64;

/**
 * Cut points of a parameter space of `size` elements for `servers` servers: servers + 1 numbers, first 0,
 * last `size`, the others multiples of 64. Shards differ by at most one block; with fewer blocks than
 * servers some are empty.
 */
export function cutEvenly(size: number, servers: number): number[] {
  if (!Number.isSafeInteger(servers) || servers < 1) {
    throw new WhittleError('INTERNAL', `cannot cut a parameter space for ${servers} servers`);
  }
  const blocks = Math.ceil(size / SHARD_ALIGNMENT);
  const cuts: number[] = [];
  for (let server = 0; server < servers; server++) {
    cuts.push(Math.min(size, Math.floor((server * blocks) / servers) * SHARD_ALIGNMENT));
  }
  cuts.push(size);
  return cuts;
}

/** Throws PROTOCOL where `cuts` is no shard map of a parameter space of `size` elements. */
export function checkCuts(cuts: readonly number[], size: number): void {
  const fail = (why: string): never => {
    throw new WhittleError('PROTOCOL', `[${cuts.join(', ')}] is no shard map of ${size} elements: ${why}`);
  };
  if (cuts.length < 2) fail('fewer than two cut points');
  if (cuts[0] !== 0) fail('the first is not 0');
  if (cuts[cuts.length - 1] !== size) fail(`the last is not ${size}`);
  cuts.forEach((cut, index) => {
    if (!Number.isSafeInteger(cut)) fail(`${cut} is no whole number`);
    if (index > 0 && cut < (cuts[index - 1] ?? 0)) fail(`${cut} is out of order`);
    if (cut !== size && cut % SHARD_ALIGNMENT !== 0) fail(`${cut} is not a multiple of ${SHARD_ALIGNMENT}`);
  });
}

/** The flat range [start, end) of one server. */
export function rangeOf(cuts: readonly number[], server: number): readonly [start: number, end: number] {
  const start = cuts[server];
  const end = cuts[server + 1];
  if (start === undefined || end === undefined) {
    throw new WhittleError('PROTOCOL', `no server[${server}] in a shard map of ${cuts.length - 1} servers`);
  }
  return [start, end];
}
