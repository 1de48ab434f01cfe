import type { Frame } from '../../protos/generated/whittle/Frame.ts';
import type { Header, _whittle_Header_Kind__Output as HeaderKind } from '../../protos/generated/whittle/Header.ts';
import { encodedFrameBytes } from './proto.ts';

export interface KindCount {
  messages: number;
  /** Bytes of bodies: packed values, bitmaps, state. */
  bodyBytes: number;
  /** Headers, protobuf tags and gRPC's 5-byte prefixes; not HTTP/2's own (9 bytes in 16 KiB). */
  overheadBytes: number;
}

/** Bytes of one direction of a stream, by the kind of header that they belong to. */
export class FrameCounts {
  readonly #kinds = new Map<HeaderKind, KindCount>();
  /** Frames that carry nothing but credit. */
  creditBytes = 0;

  of(kind: HeaderKind): Readonly<KindCount> {
    return this.#kinds.get(kind) ?? { messages: 0, bodyBytes: 0, overheadBytes: 0 };
  }

  /** All kinds that occurred. */
  kinds(): ReadonlyMap<HeaderKind, Readonly<KindCount>> {
    return this.#kinds;
  }

  /** Counts a frame; `kind` is its message's, undefined for a frame of credit alone. */
  add(kind: HeaderKind | undefined, frame: Frame): void {
    const chunkBytes = frame.chunk?.length ?? 0;
    const overhead = frameBytes(frame) - chunkBytes;
    if (kind === undefined) {
      this.creditBytes += overhead;
      return;
    }
    let count = this.#kinds.get(kind);
    if (count === undefined) this.#kinds.set(kind, (count = { messages: 0, bodyBytes: 0, overheadBytes: 0 }));
    if (frame.header != null) count.messages++;
    count.bodyBytes += chunkBytes;
    count.overheadBytes += overhead;
  }
}

const GRPC_PREFIX_BYTES = 5;

/** Bytes of a frame as gRPC sends it. The chunk is measured, not encoded. */
function frameBytes(frame: Frame): number {
  const chunkBytes = frame.chunk?.length ?? 0;
  let bytes = GRPC_PREFIX_BYTES + chunkBytes;
  if (chunkBytes > 0) bytes += 1 + varintBytes(chunkBytes);
  const credit = Number(frame.credit ?? 0);
  if (frame.header != null)
    bytes += encodedFrameBytes({ header: compactHeader(frame.header), ...(credit > 0 && { credit }) });
  else if (credit > 0) bytes += 1 + varintBytes(credit);
  return bytes;
}

/** Protobuf writes 7 bits a byte. */
function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes++;
  return bytes;
}

/** Without the fields that hold their default: protobufjs would write them, which a reader cannot tell. */
export function compactHeader(header: Header): Header {
  const isDefault = (value: unknown): boolean =>
    value === 0 || value === '' || value === false || value === undefined || value === 'OPEN';
  return Object.fromEntries(Object.entries(header).filter(([, value]) => !isDefault(value)));
}
