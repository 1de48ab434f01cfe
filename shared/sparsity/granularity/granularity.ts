/** What dies together: the units that are scored, ranked and counted. */
export interface Granularity {
  readonly name: string;
  /** Units in a parameter of this shape (row-major). */
  numUnits(shape: readonly number[]): number;
}
