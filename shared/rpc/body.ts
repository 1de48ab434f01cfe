import { crc32 } from 'node:zlib';

/** A body as one buffer or as parts that follow each other on the wire. Never changed by sending it. */
export type Body = Uint8Array | readonly Uint8Array[];

export function bodyParts(body: Body | undefined): readonly Uint8Array[] {
  if (body === undefined) return [];
  return body instanceof Uint8Array ? [body] : body;
}

export function bodyBytes(parts: readonly Uint8Array[]): number {
  return parts.reduce((bytes, part) => bytes + part.byteLength, 0);
}

/**
 * CRC-32 (ISO 3309, zlib's) of a body. Who sends one body many times computes it once and passes it in
 * each header.
 */
export function bodyChecksum(body: Body): number {
  // Node's crc32 of no bytes forgets the value so far.
  return bodyParts(body).reduce((crc, part) => (part.byteLength === 0 ? crc : crc32(part, crc)), 0);
}

/** Bytes [start, start + length) of the parts: a view where one part holds them all, else a copy. */
export function sliceParts(parts: readonly Uint8Array[], start: number, length: number): Uint8Array {
  let offset = start;
  let index = 0;
  for (let part = parts[index]; part !== undefined && offset >= part.byteLength; part = parts[++index]) {
    offset -= part.byteLength;
  }
  const first = parts[index];
  if (first === undefined || length === 0) return new Uint8Array(0);
  if (offset + length <= first.byteLength) return first.subarray(offset, offset + length);

  const copy = Buffer.allocUnsafe(length);
  for (let filled = 0; filled < length; index++) {
    const part = parts[index];
    if (part === undefined) throw new RangeError(`${start + length} bytes wanted, the parts end before`);
    const taken = part.subarray(offset, offset + length - filled);
    copy.set(taken, filled);
    filled += taken.byteLength;
    offset = 0;
  }
  return copy;
}
