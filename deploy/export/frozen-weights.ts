/** Weights that a run does not train. They are in no checkpoint: model module and seed give every process the same. */
import { bytesOf, type TensorSpec } from '../../shared/checkpoint/safetensors.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { WhittleError } from '../../shared/errors.ts';
import { disposeVariables } from '../../worker/model/describe-model.ts';
import { prepareJob } from '../../worker/training/job.ts';

export interface FrozenWeight extends TensorSpec {
  readonly bytes: Uint8Array;
}

/**
 * Builds the model of a run anew, as each of its workers did, and reads the weights of these names.
 * Errors: MODEL, DATA or UNSUPPORTED where model or data are not there as they were.
 */
export async function buildFrozenWeights({ config }: Manifest, names: readonly string[]): Promise<FrozenWeight[]> {
  if (names.length === 0) return [];
  const { backend } = config.cluster;
  if (backend === 'auto') throw new WhittleError('INTERNAL', 'the backend is still auto: it is resolved at launch');
  const { source } = config.data;
  const { variables } = await prepareJob({ backend, source, model: config.model, seed: config.seed });
  try {
    const byName = new Map([...variables.names.variables].map(([variable, name]) => [name, variable]));
    return names.map((name): FrozenWeight => {
      const tensor = byName.get(name)?.read();
      if (tensor === undefined) {
        throw new WhittleError(
          'MODEL',
          `the model of ${config.model} has no weight ${name}, which it had, frozen, in the run; put the module back as it was, or export with --format safetensors, which leaves frozen weights out`,
        );
      }
      return { name, dtype: 'F32', shape: tensor.shape, bytes: bytesOf(Float32Array.from(tensor.dataSync())) };
    });
  } finally {
    disposeVariables(variables);
  }
}
