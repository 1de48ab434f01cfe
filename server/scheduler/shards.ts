import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { checkpointName } from '../../shared/checkpoint/manifest-file.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import { parameterServerClient, unary } from '../../shared/rpc/client.ts';
import type { Member } from './members.ts';
import type { ServerHandle } from './pruning-controller.ts';

export interface ShardsOptions {
  readonly generation: number;
  readonly cuts: readonly number[];
  readonly description: ModelDescription;
  readonly config: RunConfig;
  /** The checkpoint that servers load; null: they wait for initial values. */
  readonly restored: Manifest | null;
  readonly deadlineMilliseconds: number;
  readonly signal: AbortSignal;
}

export function connectServers(members: readonly Member[]): ServerHandle[] {
  return members.map(({ rank, address }) => ({ rank, address, client: parameterServerClient(address) }));
}

/** Gives every server its shard. Resolves when all have taken it. */
export async function configureServers(servers: readonly ServerHandle[], options: ShardsOptions): Promise<void> {
  const { generation, cuts, restored, deadlineMilliseconds, signal } = options;
  const request = {
    generation,
    cuts: [...cuts],
    modelDescription: JSON.stringify(options.description),
    runFile: JSON.stringify(options.config),
    restoreFrom: restored ? checkpointName(restored.clock, restored.generation) : '',
    servers: servers.map(({ address }) => address),
  };
  await Promise.all(
    servers.map(({ client, rank }) =>
      unary(client, 'configure', { ...request, rank }, { deadlineMilliseconds, signal }),
    ),
  );
}
