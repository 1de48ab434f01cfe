/**
 * A model that was shrunk during its run is not what the user's module builds: it is built again from the topology that
 * its checkpoint keeps, with the module's loss.
 */
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { WhittleError } from '../../shared/errors.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import { isShrunkFrom } from '../../shared/shrink/is-shrunk.ts';
import type { Tf } from '../backend/tf.ts';
import { describeModel, disposeVariables, variablesOf } from './describe-model.ts';
import type { LoadedModel } from './load-model.ts';
import { withSeed } from './seeded-random.ts';
import { unseedLayers } from './unseed-layers.ts';

/**
 * `loaded` as it is where `description` is no shrunk form of it; else the same with the model of the description, the
 * user's disposed. Trained weights and states have their initializers' values, to be set from the checkpoint; frozen
 * ones those of the user's model. Errors: UNSUPPORTED, where TensorFlow.js cannot build the topology.
 */
export async function rebuildShrunk(tf: Tf, loaded: LoadedModel, description: ModelDescription): Promise<LoadedModel> {
  const built = variablesOf(loaded.model);
  const facts = { trainExamples: 0, testExamples: 0, notes: [] };
  if (!isShrunkFrom(description, describeModel(loaded.model, facts, built))) return loaded;
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
