import { basename, resolve } from 'node:path';
import type { CoordinationConfig } from '../config/types.ts';
import type { Coordinator } from './coordinator.ts';
import { EmbeddedCoordinator } from './embedded.ts';

/**
 * The coordinator that a run file asks for; schedulers, members and commands of a run all open it so. The run's id in
 * etcd is the name of its directory. Errors: RUN_FILE, CHECKPOINT, DISK; an etcd that is away shows at the first call.
 * @param options.onWaiting told, in a sentence, when etcd has not answered for a while, and when it is back
 */
export async function openCoordinator(
  config: CoordinationConfig,
  runDirectory: string,
  options: { readonly onWaiting?: (message: string) => void } = {},
): Promise<Coordinator> {
  if (config === 'embedded') return EmbeddedCoordinator.open(runDirectory);
  // Loading etcd's client and its protocol takes a while; most runs never need it.
  const { EtcdCoordinator } = await import('./etcd.ts');
  return new EtcdCoordinator({ ...options, config: config.etcd, runId: basename(resolve(runDirectory)) });
}
