/** The gradient of a gather, which embeddings need and stock wasm lacks. */
import { util } from '@tensorflow/tfjs-core';
import { floats, input, makeZeros, replaceKernel } from './kernel.ts';

export function registerSegmentSum(): void {
  // Row s of the result is the sum of the rows of x whose id is s, added in order; other ids count for nothing.
  replaceKernel('UnsortedSegmentSum', (inputs, attributes, heap) => {
    const xInfo = input(inputs, 'x');
    const idInfo = input(inputs, 'segmentIds');
    const numSegments = attributes['numSegments'] as number;
    const inner = xInfo.shape.slice(idInfo.shape.length);
    const out = makeZeros(heap, [numSegments, ...inner]);
    const [x, result] = [floats(heap, xInfo), floats(heap, out)];
    const ids = heap.typedArrayFromHeap(idInfo);
    const width = util.sizeFromShape(inner);
    for (let row = 0; row < ids.length; row++) {
      const segment = ids[row] as number;
      if (segment < 0 || segment >= numSegments) continue;
      for (let k = 0; k < width; k++) {
        const target = segment * width + k;
        result[target] = (result[target] as number) + (x[row * width + k] as number);
      }
    }
    return out;
  });
}
