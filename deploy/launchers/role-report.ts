import { setTimeout as sleep } from 'node:timers/promises';
import type { RoleExitedRequest } from '../../protos/generated/whittle/RoleExitedRequest.ts';
import { WhittleError } from '../../shared/errors.ts';
import { schedulerClient, unary } from '../../shared/rpc/client.ts';

/** Milliseconds. */
const CALL_DEADLINE = 5_000;
const RETRY_EVERY = 300;
/** A scheduler that takes over by then has seen for itself who is there. */
const GIVE_UP_AFTER = 60_000;

/**
 * Tells the scheduler, wherever it is by then, how a role's process ended. Resolves when it has heard, when `signal`
 * is aborted, or when there is no use in trying further; never rejects.
 */
export async function reportExit(
  locate: () => Promise<string>,
  request: RoleExitedRequest,
  signal: AbortSignal,
): Promise<void> {
  for (const end = Date.now() + GIVE_UP_AFTER; !signal.aborted && Date.now() < end;) {
    const client = schedulerClient(await locate());
    try {
      await unary(client, 'roleExited', request, { deadlineMilliseconds: CALL_DEADLINE, signal });
      return;
    } catch (reason) {
      if (!WhittleError.from(reason).retryable) return;
    } finally {
      client.close();
    }
    await sleep(RETRY_EVERY, undefined, { signal }).catch(() => undefined);
  }
}
