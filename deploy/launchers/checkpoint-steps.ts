import type { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { WhittleError } from '../../shared/errors.ts';

/** The error where no usable checkpoint is found (of `step` or before), with the steps there are. */
export async function noCheckpoint(
  store: CheckpointStore,
  step: number | undefined,
  cure: string,
): Promise<WhittleError> {
  const steps = await checkpointSteps(store);
  const wanted = `no usable checkpoint${step === undefined ? '' : ` of step ${step} or before`}`;
  const told = step === undefined || steps.length === 0 ? cure : `there are those of ${formatSteps(steps)}`;
  return new WhittleError('CHECKPOINT', `${store.folder} holds ${wanted}; ${told}`, {
    data: { folder: store.folder, step: step ?? null, steps },
  });
}

/** What to say where an earlier checkpoint is taken than the one asked for; null where it is that one. */
export async function earlierCheckpoint(
  store: CheckpointStore,
  step: number | undefined,
  found: number,
): Promise<string | null> {
  if (step === undefined || step === found) return null;
  return `there is no checkpoint of step ${step}, that of step ${found} is taken; there are those of ${formatSteps(await checkpointSteps(store))}`;
}

/** The steps of all finished checkpoints, ascending. */
async function checkpointSteps(store: CheckpointStore): Promise<number[]> {
  const finished = (await store.list()).filter(({ complete }) => complete);
  return [...new Set(finished.map(({ clock }) => clock))].sort((a, b) => a - b);
}

/** `step 20`, `steps 20, 40`; the last 20 of many. */
function formatSteps(steps: readonly number[]): string {
  const shown = steps.slice(-20).join(', ');
  return `${steps.length === 1 ? 'step' : 'steps'} ${steps.length > 20 ? '..., ' : ''}${shown}`;
}
