import type { ShareNormRequest } from '../../protos/generated/whittle/ShareNormRequest.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { DyadicNode } from '../../shared/layout/dyadic.ts';
import type { RowNode } from '../../shared/layout/row-tree.ts';
import { parameterServerClient, unary } from '../../shared/rpc/client.ts';
import { retry } from '../../shared/rpc/deadline.ts';
import { rowNodesToMessage } from '../../shared/rpc/row-node-messages.ts';
import type { ThreadCaller } from '../../shared/rpc/thread-calls.ts';

const SHARE_DEADLINE_MS = 120_000;

export interface PeerServersOptions {
  readonly generation: number;
  /** Addresses of all servers, by rank, and which of them this one is. */
  readonly addresses: readonly string[];
  readonly rank: number;
  readonly thread: ThreadCaller;
  readonly onFailure: (error: WhittleError) => void;
}

/** The servers of one generation, to which each hands its part of a step's sums. */
export class PeerServers {
  readonly #options: PeerServersOptions;
  readonly #clients: readonly ReturnType<typeof parameterServerClient>[];
  /** Ends what waits for others when the generation ends. */
  readonly #ended = new AbortController();

  constructor(options: PeerServersOptions) {
    this.#options = options;
    this.#clients = options.addresses.map((address) => parameterServerClient(address));
  }

  shareNorm(step: number, nodes: readonly DyadicNode[]): void {
    this.#share('the gradient norm', 'peerNorm', step, nodes, {
      levels: nodes.map(({ level }) => level),
      indices: nodes.map(({ index }) => index),
      sums: nodes.map(({ sum }) => sum),
    });
  }

  shareGroups(step: number, nodes: readonly RowNode[]): void {
    this.#share('the norms of output units', 'peerGroups', step, nodes, rowNodesToMessage(nodes));
  }

  close(): void {
    this.#ended.abort();
    for (const client of this.#clients) client.close();
  }

  /** To all servers, this one among them. */
  #share(
    sums: string,
    method: 'peerNorm' | 'peerGroups',
    step: number,
    nodes: readonly DyadicNode[] | readonly RowNode[],
    message: ShareNormRequest,
  ): void {
    const { generation, rank: sender, thread, onFailure } = this.#options;
    const request = { ...message, generation, step, sender };
    const { signal } = this.#ended;
    const shared = this.#clients.map((client, rank) =>
      rank === sender
        ? thread.call(method, { step, sender, nodes })
        : retry((deadlineMilliseconds) => unary(client, 'shareNorm', request, { deadlineMilliseconds, signal }), {
            deadlineMilliseconds: SHARE_DEADLINE_MS,
            what: `server[${rank}] to take its part of ${sums} of step ${step}`,
            signal,
          }),
    );
    Promise.all(shared).catch((reason: unknown) => {
      const error = WhittleError.from(reason);
      // The peer went over to a newer generation before this server: the scheduler tells this one next.
      if (signal.aborted || error.code === 'STALE_GENERATION') return;
      onFailure(error);
    });
  }
}
