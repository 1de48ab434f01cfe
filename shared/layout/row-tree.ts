import { WhittleError } from '../errors.ts';
import { getBit } from '../sparsity/bitmap.ts';

/**
 * Sums of squares down the columns of a parameter seen as a matrix [rows, columns], whose bits do not depend on the
 * shard map: the sum of a column is that of a binary tree over its rows, in which absent rows count as 0. A server
 * sends the few largest subtrees whose rows it holds whole, and the rows that a cut goes through as leaves, with 0 for
 * the columns that lie elsewhere (x + 0 is x exactly). Squares of float32 are exact in float64.
 */
export interface RowNode {
  /** Place of the parameter in the parameter space's list. */
  readonly parameter: number;
  /** Height in the tree; a node covers rows [index * 2^level, (index + 1) * 2^level). */
  readonly level: number;
  readonly index: number;
  /** One sum a column. */
  readonly sums: Float64Array;
}

/** Elements [from, to) of a parameter seen as rows of `columns` elements, and where a shard keeps them. */
export interface RowPart {
  readonly parameter: number;
  readonly columns: number;
  /** Within the parameter. */
  readonly from: number;
  readonly to: number;
  /** Bit of element `from` in the shard's bitmap. */
  readonly firstBit: number;
  /** Place of the first stored element at or after `from` in the shard's packed values. */
  readonly firstValue: number;
}

/** The nodes of a shard's part of a parameter. `values` are packed over `stored`. */
export function rowNodes(part: RowPart, values: Float32Array, stored: Uint8Array): RowNode[] {
  const { parameter, columns, from, to } = part;
  const nodes: RowNode[] = [];
  const whole: { level: number; index: number; sums: Float64Array }[] = [];
  let next = part.firstValue;
  for (let at = from; at < to;) {
    const row = Math.floor(at / columns);
    const end = Math.min(to, (row + 1) * columns);
    const sums = new Float64Array(columns);
    const isWhole = end - at === columns;
    for (; at < end; at++) {
      if (!getBit(stored, part.firstBit + at - from)) continue;
      const value = values[next++] as number;
      sums[at - row * columns] = value * value;
    }
    if (isWhole) addRow(whole, row, sums);
    else nodes.push({ parameter, level: 0, index: row, sums });
  }
  return [...nodes, ...whole.map((node) => ({ parameter, ...node }))];
}

/** Adds the next row to a list of maximal subtrees, joining two of one height where they are siblings. */
function addRow(nodes: { level: number; index: number; sums: Float64Array }[], row: number, sums: Float64Array): void {
  let joined = { level: 0, index: row, sums };
  for (let last = nodes.at(-1); last && last.level === joined.level && joined.index % 2 === 1; last = nodes.at(-1)) {
    nodes.pop();
    addTo(last.sums, joined.sums);
    joined = { level: last.level + 1, index: (joined.index - 1) / 2, sums: last.sums };
  }
  nodes.push(joined);
}

/** The sums over all `rows` of one parameter, from the nodes of all servers in any order. Throws PROTOCOL where a row is missing. */
export function combineRowNodes(nodes: readonly RowNode[], rows: number, columns: number): Float64Array {
  const known = new Map<string, Float64Array>();
  for (const { level, index, sums } of nodes) {
    if (sums.length !== columns) {
      throw new WhittleError('PROTOCOL', `${sums.length} partial sums for a kernel of ${columns} columns`);
    }
    const key = `${level}:${index}`;
    const before = known.get(key);
    // Two servers hold parts of one row; `sums` belong to whoever sent them.
    if (before) addTo(before, sums);
    else known.set(key, sums.slice());
  }
  const sumOf = (level: number, index: number, width: number): Float64Array | null => {
    if (index * width >= rows) return null;
    const sums = known.get(`${level}:${index}`);
    if (sums) return sums;
    if (level === 0) throw new WhittleError('PROTOCOL', `no partial sum covers row ${index} of ${rows}`);
    const left = sumOf(level - 1, index * 2, width / 2);
    const right = sumOf(level - 1, index * 2 + 1, width / 2);
    if (left && right) addTo(left, right);
    return left;
  };
  let level = 0;
  let width = 1;
  for (; width < rows; width *= 2) level++;
  return sumOf(level, 0, width) ?? new Float64Array(columns);
}

function addTo(sums: Float64Array, more: Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] as number) + (more[i] as number);
}
