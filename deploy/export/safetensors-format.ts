import { join } from 'node:path';
import { SafetensorsFile, writeSafetensors } from '../../shared/checkpoint/safetensors.ts';
import { denseBytes, denseTensors, requireSameBytes } from './dense-tensors.ts';
import type { ExportFormat, ExportSource } from './format.ts';

const FILE = 'model.safetensors';

/**
 * Dense float32 tensors under their names: all that was trained, and the states. `format: tf` says that kernels lie
 * as TensorFlow's, `[in, out]`. Memory: 4 MB (of a run that clusters weights: the largest
 * parameter) and the states.
 */
export const safetensorsFormat: ExportFormat = async (folder, source) => {
  const { manifest, metadata } = source;
  const path = join(folder, FILE);
  await writeSafetensors(path, denseTensors(manifest), { format: 'tf', ...metadata }, denseBytes(source));
  const file = await SafetensorsFile.open(path);
  try {
    await requireSameBytes(path, denseBytes(source), tensorBytes(file, source));
  } finally {
    await file.close();
  }
  return [FILE];
};

async function* tensorBytes(file: SafetensorsFile, { manifest }: ExportSource): AsyncGenerator<Uint8Array> {
  for (const { name } of denseTensors(manifest)) yield* file.chunks(file.tensor(name, 'F32'));
}
