/**
 * A model that was shrunk during its run is not what the user's module builds: it is built again from the topology that
 * its checkpoint keeps, with the module's loss.
 */
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { requireSameModel } from '../../shared/checkpoint/compatibility.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import type { Tf } from '../backend/tf.ts';
import { describeModel, disposeVariables, variablesOf } from './describe-model.ts';
import type { LoadedModel } from './load-model.ts';
import { withSeed } from './seeded-random.ts';
import { unseedLayers } from './unseed-layers.ts';

/**
 * `loaded` as it is where no unit has left the model of `description`; else the same with that model, the user's
 * disposed. Trained weights and states have their initializers' values, to be set from the checkpoint; frozen ones those
 * of the user's model. Errors: CHECKPOINT, where the user's model is not what the description was shrunk from;
 * UNSUPPORTED, where TensorFlow.js cannot build the topology.
 */
export async function rebuildShrunk(
  tf: Tf,
  loaded: LoadedModel,
  description: ModelDescription | undefined,
): Promise<LoadedModel> {
  if (description?.shrunkFrom === undefined) return loaded;
  const built = variablesOf(loaded.model);
  const { parameters } = describeModel(loaded.model, { trainExamples: 0, testExamples: 0, notes: [] }, built);
  // States may hold ranges of activations, which are no part of what the user's files build.
  const states: ModelDescription['states'] = [];
  const before = { ...description, parameters: description.shrunkFrom.parameters, states };
  requireSameModel(before, { ...before, parameters }, 'the checkpoint');
  const model = await modelOf(tf, loaded.source, description);
  const frozen = new Map([...built.names.variables].map(([variable, name]) => [name, variable]));
  const rebuilt = variablesOf(model);
  const trained = new Set([...rebuilt.parameters, ...rebuilt.states]);
  for (const [variable, name] of rebuilt.names.variables) {
    const value = trained.has(variable) ? undefined : frozen.get(name)?.read();
    if (value !== undefined) variable.write(value);
  }
  disposeVariables(built);
  unseedLayers(model);
  return { ...loaded, model };
}

async function modelOf(tf: Tf, source: string, { topology }: ModelDescription): Promise<LayersModel> {
  try {
    // Initializers draw, and what they draw is replaced: they must not move the generator of anything else.
    return await withSeed({ seed: 0, step: 0, slice: 0 }, 'model', () =>
      tf.models.modelFromJSON(structuredClone(topology) as never),
    );
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WhittleError(
      'UNSUPPORTED',
      `TensorFlow.js cannot build the shrunk model of ${source} from its topology: ${why}; a layer class of one's own ` +
        'needs tf.serialization.registerClass in the model module',
      { cause },
    );
  }
}
