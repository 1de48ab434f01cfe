import type { Manifest, ManifestFacts, ShardSnapshot } from '../../shared/checkpoint/manifest.ts';
import type { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { readWhole, writeWhole } from '../../shared/checkpoint/whole.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { Coordinator } from '../../shared/coordination/coordinator.ts';
import { WhittleError } from '../../shared/errors.ts';
import { dueInterventions, type Intervention } from '../../shared/interventions/calendar.ts';
import { rewound } from '../../shared/interventions/rewind.ts';
import { cutEvenly } from '../../shared/layout/shard-map.ts';
import { shrinkCheckpoint } from '../../shared/shrink/shrink-checkpoint.ts';
import { describeShrinking } from '../../shared/shrink/describe-shrinking.ts';
import { failpoint } from '../../shared/telemetry/failpoints.ts';
import { createOptimizer } from '../parameter-server/optimizers/optimizer.ts';

export interface InterveneOptions {
  readonly config: RunConfig;
  readonly store: CheckpointStore;
  readonly coordinator: Coordinator;
  /** The generation that goes on from what comes of it. */
  readonly generation: number;
  /** Hears of each that was done, in words. */
  readonly done: (intervention: Intervention, what: string) => void;
}

/** A checkpoint's content on its way through interventions. */
interface Content {
  readonly manifest: ManifestFacts;
  /** The whole parameter space, and its state. */
  readonly whole: ShardSnapshot;
  /** What was done, for people. */
  readonly what: string;
}

type Transform = (from: Content, step: number, options: InterveneOptions) => Content | Promise<Content>;

const TRANSFORMS: Readonly<Record<Intervention['kind'], Transform>> = { rewind, shrink };

/**
 * Does all interventions that are due at a checkpoint: what comes of them is a new one of the same clock, in the new
 * generation. Guarantee: a function of checkpoints and the run file alone. Until `latest` names what came of it nothing
 * has happened, so after a crash it is done again from the same checkpoint, with the same bits.
 */
export async function intervene(from: Manifest, options: InterveneOptions): Promise<Manifest> {
  const { config, store, coordinator, generation, done } = options;
  const due = dueInterventions(config, from);
  if (due.length === 0) return from;
  let content: Content = { manifest: from, whole: await readWhole(store.folderOf(from), from), what: '' };
  for (const each of due) {
    content = await TRANSFORMS[each.kind](content, each.step, options);
    done(each, content.what);
  }
  const { manifest: changed, whole } = content;
  const folder = await store.create(from.clock, generation);
  const manifest: Manifest = {
    ...changed,
    generation,
    shards: await writeWhole(folder, whole, cutEvenly(whole.end, 1)),
    interventions: [...(from.interventions ?? []), ...due.map(({ id }) => id)],
    testAccuracy: null,
    writtenAt: new Date().toISOString(),
  };
  await store.publish(manifest);
  failpoint('checkpoint.manifest-written', from.clock);
  await coordinator.commitLatest({ generation, clock: from.clock, folder: store.folderName(from.clock, generation) });
  return manifest;
}

async function rewind(
  { manifest, whole }: Content,
  step: number,
  { config, store }: InterveneOptions,
): Promise<Content> {
  const to = config.rewind?.find(({ at }) => at === step)?.to ?? 0;
  const entry = (await store.list()).findLast(({ clock, complete }) => clock === to && complete);
  if (!entry) {
    throw new WhittleError(
      'CHECKPOINT',
      `rewind@${step} needs the checkpoint of step ${to}, and ${store.folder} holds none; resume from before step ${to}`,
    );
  }
  const then = await readWhole(entry.path, await store.verify(entry.path));
  const what = `the survivors of step ${step} go on from their values of step ${to}`;
  return { manifest, whole: rewound(whole, then, freshSlots(config)), what };
}

function shrink({ manifest, whole }: Content, step: number): Content {
  const shrunk = shrinkCheckpoint(manifest, whole, 'masked');
  return { ...shrunk, what: `shrunk at step ${step}: ${describeShrinking(shrunk)}` };
}

function freshSlots(config: RunConfig): (name: string) => number {
  const optimizer = createOptimizer(config.training.optimizer);
  return (name) => (optimizer.slotNames.includes(name) ? optimizer.initialSlot(name) : 0);
}
