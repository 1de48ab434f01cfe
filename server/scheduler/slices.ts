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
