import type { Manifest, ShardSnapshot } from '../../shared/checkpoint/manifest.ts';
import { writeShardFile } from '../../shared/checkpoint/shard-file.ts';
import type { CheckpointStore } from '../../shared/checkpoint/store.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { Coordinator } from '../../shared/coordination/coordinator.ts';
import { WhittleError } from '../../shared/errors.ts';
import { dueIntervention, type Intervention } from '../../shared/interventions/calendar.ts';
import { rewound } from '../../shared/interventions/rewind.ts';
import { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { failpoint } from '../../shared/telemetry/failpoints.ts';
import { createOptimizer } from '../parameter-server/optimizers/optimizer.ts';

export interface InterveneOptions {
  readonly config: RunConfig;
  readonly store: CheckpointStore;
  readonly coordinator: Coordinator;
  /** The generation that goes on from what comes of it. */
  readonly generation: number;
  /** Hears of each that was done. */
  readonly done: (intervention: Intervention, manifest: Manifest) => void;
}

/**
 * Does all interventions that are due at a checkpoint: each makes a new one of the same clock, in the new generation.
 * Guarantee: a function of checkpoints and the run file alone. Until `latest` names what came of it nothing has
 * happened, so after a crash it is done again from the same checkpoint, with the same bits.
 */
export async function intervene(from: Manifest, options: InterveneOptions): Promise<Manifest> {
  const { config, store, coordinator, generation, done } = options;
  const intervention = dueIntervention(config, from);
  if (intervention === null) return from;
  const whole = await wholeOf(store, from);
  const changed = rewound(whole, await wholeOf(store, await earlier(options, intervention)), freshSlots(config));
  const folder = await store.create(from.clock, generation);
  const shard = await writeShardFile(folder, 0, changed);
  const manifest: Manifest = {
    ...from,
    generation,
    shards: [shard],
    interventions: [...(from.interventions ?? []), intervention.id],
    testAccuracy: null,
    writtenAt: new Date().toISOString(),
  };
  await store.publish(manifest);
  failpoint('checkpoint.manifest-written', from.clock);
  await coordinator.commitLatest({ generation, clock: from.clock, folder: store.folderName(from.clock, generation) });
  done(intervention, manifest);
  return manifest;
}

function wholeOf(store: CheckpointStore, manifest: Manifest): Promise<ShardSnapshot> {
  const { size } = ParameterSpace.of(manifest.model.parameters);
  return store.readRange(manifest, 0, size, { withState: true });
}

/** The checkpoint whose values come back. */
async function earlier({ config, store }: InterveneOptions, { id, step }: Intervention): Promise<Manifest> {
  const to = config.rewind?.find(({ at }) => at === step)?.to ?? 0;
  const entry = (await store.list()).findLast(({ clock, complete }) => clock === to && complete);
  if (!entry) {
    throw new WhittleError(
      'CHECKPOINT',
      `${id} needs the checkpoint of step ${to}, and ${store.folder} holds none; resume from before step ${to}`,
    );
  }
  return store.verify(entry.path);
}

function freshSlots(config: RunConfig): (name: string) => number {
  const optimizer = createOptimizer(config.training.optimizer);
  return (name) => (optimizer.slotNames.includes(name) ? optimizer.initialSlot(name) : 0);
}
