import { createHash } from 'node:crypto';
import { WhittleError } from '../errors.ts';

/**
 * Bitmaps: bit i is bit (i mod 8) of byte floor(i / 8), least significant first. A bitmap of `length` bits
 * has ceil(length / 8) bytes, and its unused last bits are 0. In masks, bit 1 means survivor.
 */

/** Number of set bits in each byte. */
const BYTE_COUNTS = new Uint8Array(256);
for (let byte = 1; byte < 256; byte++) BYTE_COUNTS[byte] = (byte & 1) + (BYTE_COUNTS[byte >> 1] as number);

export function bitmapBytes(length: number): number {
  return Math.ceil(length / 8);
}

export function emptyBitmap(length: number): Uint8Array {
  return new Uint8Array(bitmapBytes(length));
}

export function fullBitmap(length: number): Uint8Array {
  const bits = new Uint8Array(bitmapBytes(length)).fill(0xff);
  clearPadding(bits, length);
  return bits;
}

export function getBit(bits: Uint8Array, index: number): boolean {
  return ((bits[index >>> 3] as number) & (1 << (index & 7))) !== 0;
}

export function setBit(bits: Uint8Array, index: number): void {
  const byte = index >>> 3;
  bits[byte] = (bits[byte] as number) | (1 << (index & 7));
}

export function clearBit(bits: Uint8Array, index: number): void {
  const byte = index >>> 3;
  bits[byte] = (bits[byte] as number) & ~(1 << (index & 7));
}

/** Sets all bits in [start, end). */
export function setRange(bits: Uint8Array, start: number, end: number): void {
  let at = start;
  for (; at < end && (at & 7) !== 0; at++) setBit(bits, at);
  const whole = at + ((end - at) & ~7);
  if (at < whole) bits.fill(0xff, at >>> 3, whole >>> 3);
  for (at = Math.max(at, whole); at < end; at++) setBit(bits, at);
}

/** The bits of a bitmap of `length` bits that are not set. */
export function complement(bits: Uint8Array, length: number): Uint8Array {
  const out = bits.map((byte) => ~byte);
  clearPadding(out, length);
  return out;
}

/** Set bits in [start, end), by default in all of `bits`. */
export function countBits(bits: Uint8Array, start = 0, end: number = bits.length * 8): number {
  if (end <= start) return 0;
  const firstByte = start >>> 3;
  const lastByte = (end - 1) >>> 3;
  const headMask = (0xff << (start & 7)) & 0xff;
  const tailMask = 0xff >>> (7 - ((end - 1) & 7));
  if (firstByte === lastByte) return BYTE_COUNTS[(bits[firstByte] as number) & headMask & tailMask] as number;
  return (
    (BYTE_COUNTS[(bits[firstByte] as number) & headMask] as number) +
    countWholeBytes(bits, firstByte + 1, lastByte) +
    (BYTE_COUNTS[(bits[lastByte] as number) & tailMask] as number)
  );
}

function countWholeBytes(bits: Uint8Array, start: number, end: number): number {
  let count = 0;
  let at = start;
  while (at < end && ((bits.byteOffset + at) & 3) !== 0) count += BYTE_COUNTS[bits[at++] as number] as number;
  const numWords = (end - at) >>> 2;
  if (numWords > 0) {
    const words = new Uint32Array(bits.buffer, bits.byteOffset + at, numWords);
    for (let i = 0; i < numWords; i++) {
      let word = words[i] as number;
      word -= (word >>> 1) & 0x55555555;
      word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
      count += Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
    }
    at += numWords * 4;
  }
  while (at < end) count += BYTE_COUNTS[bits[at++] as number] as number;
  return count;
}

/** Positions of the set bits in [start, end), ascending, counted from bit 0 of `bits`. */
export function setPositions(bits: Uint8Array, start = 0, end: number = bits.length * 8): Uint32Array {
  const positions = new Uint32Array(countBits(bits, start, end));
  let next = 0;
  for (let byte = start >>> 3; byte * 8 < end; byte++) {
    let rest = bits[byte] as number;
    const first = byte * 8;
    if (first < start) rest &= 0xff << (start - first);
    if (first + 8 > end) rest &= 0xff >>> (first + 8 - end);
    for (; rest !== 0; rest &= rest - 1) positions[next++] = first + 31 - Math.clz32(rest & -rest);
  }
  return positions;
}

/** A new bitmap of the bits [start, end); neither needs to be a multiple of 8. */
export function sliceBits(bits: Uint8Array, start: number, end: number): Uint8Array {
  const length = Math.max(0, end - start);
  const shift = start & 7;
  const from = start >>> 3;
  if (shift === 0) {
    const whole = bits.slice(from, from + bitmapBytes(length));
    clearPadding(whole, length);
    return whole;
  }
  const out = emptyBitmap(length);
  for (let i = 0; i < out.length; i++) {
    out[i] = ((bits[from + i] as number) >>> shift) | ((bits[from + i + 1] ?? 0) << (8 - shift));
  }
  clearPadding(out, length);
  return out;
}

/** Bitmaps laid end to end. */
export function concatBits(parts: readonly { readonly bits: Uint8Array; readonly length: number }[]): Uint8Array {
  const out = emptyBitmap(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const { bits, length } of parts) {
    const shift = at & 7;
    const to = at >>> 3;
    const numBytes = bitmapBytes(length);
    if (bits.length < numBytes) {
      throw new WhittleError('INTERNAL', `a bitmap of ${length} bits has only ${bits.length} bytes`);
    }
    for (let i = 0; i < numBytes; i++) {
      const byte = i === numBytes - 1 ? (bits[i] as number) & lastByteMask(length) : (bits[i] as number);
      out[to + i] = (out[to + i] as number) | (byte << shift);
      if (shift !== 0 && to + i + 1 < out.length) out[to + i + 1] = byte >>> (8 - shift);
    }
    at += length;
  }
  return out;
}

/** Mask digest: hex sha256 of the bitmap in flat order, from parts in flat order (one a shard). */
export function maskDigest(parts: readonly { readonly bits: Uint8Array; readonly length: number }[]): string {
  return createHash('sha256').update(concatBits(parts)).digest('hex');
}

/** Sets the unused bits of the last byte to 0. */
export function clearPadding(bits: Uint8Array, length: number): void {
  const last = bits.length - 1;
  if (last >= 0 && last === bitmapBytes(length) - 1) bits[last] = (bits[last] as number) & lastByteMask(length);
}

function lastByteMask(length: number): number {
  return 0xff >>> ((8 - (length & 7)) & 7);
}
