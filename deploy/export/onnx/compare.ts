import type { LayersModel } from '@tensorflow/tfjs-layers';
import { WhittleError } from '../../../shared/errors.ts';
import { errorCode } from '../../../shared/checkpoint/durable.ts';
import { createRandom } from '../../../shared/kernels/random.ts';
import { tf } from '../../../worker/backend/tf.ts';

/** Largest difference, relative to the larger of 1 and the value: float32 sums in another order. */
const TOLERANCE = 1e-4;
const BATCH = 4;
/** Of sizes that a model leaves open. */
const OPEN_SIZE = 16;

/**
 * Runs an ONNX file with onnxruntime-web and compares its outputs with the model's, on inputs from -1 to 1. Answers
 * false where onnxruntime-web is not installed. Errors: DISK where outputs differ or the file cannot be run.
 */
export async function compareOutputs(path: string, file: Uint8Array, model: LayersModel): Promise<boolean> {
  const runtime = await importRuntime();
  if (runtime === null) return false;
  // One thread: nothing may be left behind that keeps the process alive.
  runtime.env.wasm.numThreads = 1;
  const random = createRandom(0);
  const inputs = model.inputs.map(({ shape }) => {
    const sizes = shape.map((size, axis) => size ?? (axis === 0 ? BATCH : OPEN_SIZE));
    const values = new Float32Array(sizes.reduce((product, size) => product * size, 1));
    return { sizes, values: values.map(() => 2 * random.float() - 1) };
  });
  const expected = tf.tidy(() => {
    const outputs = model.predict(inputs.map(({ sizes, values }) => tf.tensor(values, sizes)));
    return [outputs].flat().map((output) => Float32Array.from(output.dataSync<'float32'>()));
  });
  const session = await runtime.InferenceSession.create(file).catch((error: unknown) => {
    throw new WhittleError('DISK', `${path} cannot be run by onnxruntime-web; this is a defect, please report it`, {
      cause: error,
    });
  });
  try {
    const given = inputs.map(({ sizes, values }, k) => {
      const name = session.inputNames[k] as string;
      return [name, new runtime.Tensor('float32', values, sizes)] as const;
    });
    const outputs = await session.run(Object.fromEntries(given));
    for (const [k, name] of session.outputNames.entries()) {
      requireNear(path, name, expected[k] as Float32Array, outputs[name]?.data as Float32Array);
    }
  } finally {
    await session.release();
  }
  return true;
}

async function importRuntime(): Promise<typeof import('onnxruntime-web') | null> {
  try {
    return await import('onnxruntime-web');
  } catch (error) {
    if (errorCode(error) === 'ERR_MODULE_NOT_FOUND') return null;
    throw error;
  }
}

function requireNear(path: string, name: string, expected: Float32Array, actual: Float32Array): void {
  const worst = expected.findIndex((value, i) => {
    const found = actual[i] ?? Number.NaN;
    return !(Math.abs(value - found) <= TOLERANCE * Math.max(1, Math.abs(value)));
  });
  if (worst < 0 && actual.length === expected.length) return;
  throw new WhittleError(
    'DISK',
    `${path}, run by onnxruntime-web, gives ${name}[${worst}] = ${actual[worst]}, the model ${expected[worst]}; ` +
      'this is a defect, please report it, and export with --format tfjs or safetensors',
  );
}
