import { createHash } from 'node:crypto';
import { checkpointName } from '../../shared/checkpoint/manifest-file.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import type { History } from '../../shared/telemetry/history.ts';
import type { CommitRecord } from './pruning-controller.ts';

/** Writes down a mask commit record before any server has it. */
export function recordDecided(history: History, { generation, step, maskEpoch, selections }: CommitRecord): void {
  if (!history.isOn) return;
  const digest = createHash('sha256').update(JSON.stringify(selections)).digest('hex');
  history.record({ kind: 'commit-decided', generation, step, maskEpoch, digest });
}

/** Writes down a checkpoint on its way to being the latest. */
export function recordCheckpoint(history: History, phase: 'offered' | 'committed', manifest: Manifest): void {
  const { generation, clock, maskEpoch, shards } = manifest;
  history.record({
    kind: 'checkpoint',
    phase,
    generation,
    clock,
    maskEpoch,
    folder: checkpointName(clock, generation),
    shards: shards.map(({ start, end, sha256 }) => ({ start, end, sha256 })),
  });
}
