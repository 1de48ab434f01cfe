import type { ClusterApi } from './api.ts';
import type { PodState } from './explain.ts';
import { ANNOTATIONS } from './names.ts';

/**
 * Asks a run to checkpoint and stop: an annotation of its scheduler's pod, which the kubelet shows in a file there.
 * So it needs no network to the pod and none of the run's secrets, and nothing looks as if it had failed.
 * False where no scheduler runs that could be asked.
 */
export async function askPodToStop(api: ClusterApi, scheduler: PodState | null, reason: string): Promise<boolean> {
  if (scheduler === null || scheduler.phase !== 'Running') return false;
  return api.patch(
    { apiVersion: 'v1', kind: 'Pod', name: scheduler.name },
    { metadata: { annotations: { [ANNOTATIONS.stop]: reason } } },
  );
}
