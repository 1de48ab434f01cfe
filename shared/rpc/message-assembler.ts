import { crc32 } from 'node:zlib';
import type { Frame__Output } from '../../protos/generated/whittle/Frame.ts';
import type { Header__Output } from '../../protos/generated/whittle/Header.ts';
import { WhittleError } from '../errors.ts';
import { CHUNK_BYTES } from './options.ts';

export interface Message {
  readonly header: Header__Output;
  /** At offset 0 of an ArrayBuffer of its own: may be viewed as Float32Array or transferred. */
  readonly body: Uint8Array<ArrayBuffer>;
}

/** Puts messages together from frames. Idle until a header comes, then filling until its body is whole. */
export class MessageAssembler {
  readonly #maxBodyBytes: number;
  readonly #checksum: boolean;
  #header: Header__Output | undefined;
  #body = new Uint8Array(0);
  #filled = 0;
  #crc = 0;

  constructor(maxBodyBytes: number, checksum: boolean) {
    this.#maxBodyBytes = maxBodyBytes;
    this.#checksum = checksum;
  }

  /** The header whose body is not whole yet. */
  get filling(): Header__Output | undefined {
    return this.#header;
  }

  /** The message that this frame completes, or null. Throws PROTOCOL on a frame that has no place. */
  accept(frame: Frame__Output): Message | null {
    if (frame.header !== null) this.#begin(frame.header);
    const header = this.#header;
    if (header === undefined) throw violation(`a chunk of ${frame.chunk.length} bytes came without a header`);
    this.#append(header, frame.chunk);
    if (this.#filled < header.bodyBytes) return null;
    if (this.#checksum && this.#crc !== header.crc32) {
      throw violation(`${describe(header)} has crc32 ${this.#crc}, its header says ${header.crc32}`);
    }
    const message = { header, body: this.#body };
    this.#header = undefined;
    this.#body = new Uint8Array(0);
    return message;
  }

  #begin(header: Header__Output): void {
    if (this.#header !== undefined) {
      throw violation(
        `a ${header.kind} came while ${describe(this.#header)} was at ${this.#filled} of ${this.#header.bodyBytes} bytes`,
      );
    }
    const { bodyBytes } = header;
    if (!Number.isSafeInteger(bodyBytes) || bodyBytes < 0 || bodyBytes > this.#maxBodyBytes) {
      throw violation(`${describe(header)} announces ${bodyBytes} bytes, at most ${this.#maxBodyBytes} are taken`);
    }
    this.#header = header;
    // Unlike allocUnsafe this is never cut from Node's shared pool: the buffer is the body's own.
    this.#body = new Uint8Array(Buffer.allocUnsafeSlow(bodyBytes).buffer, 0, bodyBytes);
    this.#filled = 0;
    this.#crc = 0;
  }

  #append(header: Header__Output, chunk: Uint8Array): void {
    if (chunk.length > CHUNK_BYTES) {
      throw violation(`${describe(header)} has a chunk of ${chunk.length} bytes, at most ${CHUNK_BYTES} are allowed`);
    }
    if (chunk.length > header.bodyBytes - this.#filled) {
      throw violation(`${describe(header)} has a chunk beyond its body of ${header.bodyBytes} bytes`);
    }
    this.#body.set(chunk, this.#filled);
    this.#filled += chunk.length;
    if (this.#checksum && chunk.length > 0) this.#crc = crc32(chunk, this.#crc);
  }
}

export function violation(what: string): WhittleError {
  return new WhittleError('PROTOCOL', `${what}; are all roles of the same Whittle version?`);
}

function describe(header: Header__Output): string {
  return `${header.kind} of clock ${header.clock} from rank ${header.sender}`;
}
