import { bytesOf, type Codec } from './format.ts';

/** Values as they are; without a copy where the address allows it. */
export const float32: Codec = {
  bytesFor: (count) => count * 4,
  encode: (values) => bytesOf(values),
  decode(bytes, count) {
    if (bytes.byteOffset % 4 === 0) return new Float32Array(bytes.buffer, bytes.byteOffset, count);
    const values = new Float32Array(count);
    bytesOf(values).set(bytes);
    return values;
  },
};
