import { readRunLock } from './lock.ts';

/**
 * Where members find the scheduler: the holder of the run directory's lock, and before there is one, the address they
 * were given. Asked again before every attempt, since a scheduler that takes over listens elsewhere.
 */
export function schedulerLocator(runDirectory: string, given: string | null): () => Promise<string | null> {
  return async () => (await readRunLock(runDirectory).catch(() => null))?.address ?? given;
}
