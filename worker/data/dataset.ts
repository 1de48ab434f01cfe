/** What a source of examples looks like to the training loop. */

export type NumericArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array;

/** One tensor's worth of a batch: `shape[0]` examples. Whole-number arrays of shape [n] as labels are class ids. */
export interface Column {
  readonly data: NumericArray;
  readonly shape: readonly number[];
}

/** One column, or a record of them for models with several inputs (by input name) or labels. */
export type Columns = Column | Readonly<Record<string, Column>>;

export interface Batch {
  readonly inputs: Columns;
  readonly labels: Columns;
}

/** Uniform in [0, 1). */
export type Random = () => number;

export interface Part {
  /** Number of examples. */
  readonly size: number;
  /**
   * The examples at `indices` (each 0 .. size-1), in that order. `random` is seeded from the seed, the step and
   * the slice, for augmentation. The arrays may be overwritten by the next call.
   */
  batch(indices: Int32Array, random: Random): Batch | Promise<Batch>;
}

export interface Dataset {
  readonly train: Part;
  readonly test: Part | null;
  /** Shape of one example, such as [28, 28, 1]; a record for several inputs. */
  readonly inputShape: readonly number[] | Readonly<Record<string, readonly number[]>>;
  /** Class ids (whole numbers of shape [n]) or other values. */
  readonly labels: 'classes' | 'values';
  /** Number of classes; null where the labels are not class ids, or a data module does not say. */
  readonly classes: number | null;
  /** What the user calls it, for messages. */
  readonly source: string;
}

/** True for one column, false for a record of them. */
export function isColumn(columns: Columns): columns is Column {
  return ArrayBuffer.isView((columns as Partial<Column>).data);
}

/** True where labels can be class ids. */
export function isWholeNumberArray(data: NumericArray): boolean {
  return !(data instanceof Float32Array || data instanceof Float64Array);
}
