import type { ShareNormRequest, ShareNormRequest__Output } from '../../protos/generated/whittle/ShareNormRequest.ts';
import { WhittleError } from '../errors.ts';
import type { RowNode } from '../layout/row-tree.ts';

/** The sums of all nodes are laid end to end. */
export function rowNodesToMessage(nodes: readonly RowNode[]): ShareNormRequest {
  return {
    groups: true,
    levels: nodes.map(({ level }) => level),
    indices: nodes.map(({ index }) => index),
    parameters: nodes.map(({ parameter }) => parameter),
    columns: nodes.map(({ sums }) => sums.length),
    sums: nodes.flatMap(({ sums }) => [...sums]),
  };
}

/** Throws PROTOCOL where the lists do not fit together. */
export function rowNodesFrom({
  levels,
  indices,
  parameters,
  columns,
  sums,
}: Pick<ShareNormRequest__Output, 'levels' | 'indices' | 'parameters' | 'columns' | 'sums'>): RowNode[] {
  let at = 0;
  const nodes = parameters.map((parameter, i): RowNode => {
    const from = at;
    at += columns[i] ?? 0;
    return {
      parameter,
      level: levels[i] ?? 0,
      index: indices[i] ?? 0,
      sums: Float64Array.from(sums.slice(from, at)),
    };
  });
  if (at !== sums.length || [levels, indices, columns].some((list) => list.length !== parameters.length)) {
    throw new WhittleError('PROTOCOL', `${sums.length} sums of groups in ${parameters.length} nodes of ${at} columns`);
  }
  return nodes;
}
