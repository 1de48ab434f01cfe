/** Which slices each worker computes: contiguous blocks in rank order, sizes differing by at most one. */
export function assignSlices(slices: number, workers: readonly number[]): Map<number, readonly number[]> {
  const assignment = new Map<number, readonly number[]>();
  workers.forEach((worker, i) => {
    const from = Math.floor((i * slices) / workers.length);
    const to = Math.floor(((i + 1) * slices) / workers.length);
    assignment.set(
      worker,
      Array.from({ length: to - from }, (_, k) => from + k),
    );
  });
  return assignment;
}

/**
 * The assignment after members came or went: who stays keeps its slices as far as an even share allows, so that little
 * is computed twice. The slices of those who left go to the workers with the fewest; one with too many gives its last
 * ones to a newcomer. Which worker computes a slice changes no bit of the run.
 */
export function reassignSlices(
  slices: number,
  workers: readonly number[],
  before: ReadonlyMap<number, readonly number[]>,
): Map<number, readonly number[]> {
  const kept = new Map(workers.map((worker) => [worker, [...(before.get(worker) ?? [])]]));
  if (workers.length === 0) return kept;
  const owned = new Set([...kept.values()].flat());
  const free = Array.from({ length: slices }, (_, slice) => slice).filter((slice) => !owned.has(slice));
  const lists = [...kept.values()];
  const least = (): number[] => lists.reduce((a, b) => (b.length < a.length ? b : a));
  const most = (): number[] => lists.reduce((a, b) => (b.length > a.length ? b : a));
  for (const slice of free) least().push(slice);
  for (let [from, to] = [most(), least()]; from.length - to.length > 1; [from, to] = [most(), least()]) {
    const moved = from.pop();
    if (moved !== undefined) to.push(moved);
  }
  for (const list of lists) list.sort((a, b) => a - b);
  return kept;
}

/**
 * Slices that `backups` workers compute once more, slowest owners first, while they wait: the first complete copy counts.
 * Each gets the slices of one other worker, the next in rank order that has any.
 */
export function backupSlices(
  assignment: ReadonlyMap<number, readonly number[]>,
  backups: number,
  slowestFirst: readonly number[],
): Map<number, readonly number[]> {
  const result = new Map<number, readonly number[]>();
  const helpers = [...slowestFirst].reverse();
  for (let i = 0; i < Math.min(backups, slowestFirst.length); i += 1) {
    const slow = slowestFirst[i];
    const helper = helpers[i];
    if (slow === undefined || helper === undefined || slow === helper) continue;
    result.set(helper, [...(assignment.get(slow) ?? [])].reverse());
  }
  return result;
}
