import { join } from 'node:path';
import { bytesOf } from '../../shared/checkpoint/safetensors.ts';
import { TensorFile, writePacked } from '../../shared/packed/tensor-file.ts';
import { denseBytes, requireSameBytes } from './dense-tensors.ts';
import type { ExportFormat } from './format.ts';
import { packedTensors } from './packed-tensors.ts';

const FILE = 'model.safetensors';

/** Safetensors with the survivors only and a deflated bitmap a tensor; the layout is in shared/packed/packed-layout.ts. */
export const packedFormat: ExportFormat = async (folder, source) => {
  const path = join(folder, FILE);
  await writePacked(path, packedTensors(source), { format: 'tf', ...source.metadata });
  const file = await TensorFile.open(path);
  try {
    // Against what the checkpoint's own reader makes of it, not against what was packed.
    await requireSameBytes(path, denseBytes(source), denseOf(file));
  } finally {
    await file.close();
  }
  return [FILE];
};

async function* denseOf(file: TensorFile): AsyncGenerator<Uint8Array> {
  for (const name of file.tensors.keys()) yield bytesOf(await file.read(name));
}
