import type { Batch, Part } from './dataset.ts';

/** Pixel bytes as the float32 that x / 255 rounds to. */
const PIXELS = Float32Array.from({ length: 256 }, (_, byte) => byte / 255);

/**
 * Images kept as bytes and turned into float32 in 0 .. 1 a batch at a time: a quarter of the memory, and a
 * lookup a pixel.
 */
export class ImagePart implements Part {
  readonly size: number;
  readonly #images: Uint8Array;
  readonly #labels: Uint8Array;
  readonly #shape: readonly number[];
  #pixels = new Float32Array(0);

  /** @param images [size, ...shape], @param labels [size], @param shape of one image */
  constructor(images: Uint8Array, labels: Uint8Array, shape: readonly number[]) {
    this.size = labels.length;
    this.#images = images;
    this.#labels = labels;
    this.#shape = shape;
  }

  batch(indices: Int32Array): Batch {
    const numPixels = this.#shape.reduce((product, size) => product * size, 1);
    const length = indices.length * numPixels;
    if (this.#pixels.length !== length) this.#pixels = new Float32Array(length);
    const pixels = this.#pixels;
    const labels = new Int32Array(indices.length);
    for (let i = 0; i < indices.length; i++) {
      const index = indices[i] as number;
      const from = index * numPixels;
      const to = i * numPixels;
      for (let p = 0; p < numPixels; p++) pixels[to + p] = PIXELS[this.#images[from + p] as number] as number;
      labels[i] = this.#labels[index] as number;
    }
    return {
      inputs: { data: pixels, shape: [indices.length, ...this.#shape] },
      labels: { data: labels, shape: [indices.length] },
    };
  }

  /** One more than the largest label. */
  get classes(): number {
    return this.#labels.reduce((largest, label) => Math.max(largest, label), 0) + 1;
  }
}
