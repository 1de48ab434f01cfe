import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ClientDuplexStream, ServerDuplexStream, ServiceError, StatusObject } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { Frame, Frame__Output } from '../../protos/generated/whittle/Frame.ts';
import type { Header, Header__Output } from '../../protos/generated/whittle/Header.ts';
import { WhittleError } from '../errors.ts';
import { bodyBytes, bodyChecksum, bodyParts, sliceParts } from './body.ts';
import type { Body } from './body.ts';
import { interrupted } from './deadline.ts';
import { FrameCounts, compactHeader } from './frame-counts.ts';
import { MessageAssembler, violation } from './message-assembler.ts';
import type { Message } from './message-assembler.ts';
import { CHUNK_BYTES } from './options.ts';
import { fromStatus, toStatus } from './rpc-errors.ts';

export const DEFAULT_CREDIT_BYTES = 16 << 20;
export const DEFAULT_MAX_BODY_BYTES = 2 ** 31 - 1;

/** Messages that may wait to be sent, and bytes of them beyond the first few: who asks and never reads is dropped. */
const MAX_QUEUED = 256;
const MAX_QUEUED_BYTES = 64 << 20;
const ALWAYS_QUEUED = 4;
/** A worker reads and gives credit at once, whatever it computes; a server may rightly wait for other workers. */
const SERVER_STALL_MILLISECONDS = 60_000;

const CANCEL_TURNS = 4;

export type FrameDuplex = ClientDuplexStream<Frame, Frame__Output> | ServerDuplexStream<Frame__Output, Frame>;

/** A header to send: bodyBytes is filled in; crc32 too unless given (see `bodyChecksum`). */
export type OutgoingHeader = Omit<Header, 'kind' | 'bodyBytes'> & { readonly kind: Header__Output['kind'] };

/**
 * Gets each message in the order received, without waiting for the earlier ones. The body's bytes go
 * back to the sender as credit when `release` is called or the returned promise settles, whichever is
 * first (at once where nothing is returned). A handler that throws ends the stream with that error.
 */
export type MessageHandler = (
  header: Header__Output,
  body: Uint8Array<ArrayBuffer>,
  release: () => void,
) => void | Promise<void>;

export interface FrameStreamOptions {
  /** Names the other side in errors: `S[1] at 10.0.0.2:7000`. */
  readonly peer: string;
  /** Bytes of bodies that the peer may send beyond those released. Both sides choose their own. Default 16 MiB. */
  readonly creditBytes?: number;
  /** Larger bodies are refused by their header. Default 2 GiB - 1. */
  readonly maxBodyBytes?: number;
  /** Whether bodies carry a crc32. Both sides must agree. Default true. */
  readonly checksum?: boolean;
  /**
   * How long a message may be under way without a byte of it moving, in milliseconds, before the peer counts as one
   * that never reads (or never goes on writing) and the stream ends; 0: for ever. Default 60 s in servers, else 0.
   */
  readonly stallMilliseconds?: number;
}

interface Outgoing {
  readonly header: OutgoingHeader;
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
  readonly signal: AbortSignal | undefined;
  started: boolean;
  /** Settles the promise of `send`, once. */
  readonly settle: (error?: WhittleError) => void;
}

/**
 * Messages (a header and a body) over either side of an Exchange stream.
 *
 * Bodies travel in chunks of at most 1 MiB, one body at a time in each direction, against credit: the
 * receiver grants `creditBytes` when it starts reading and returns what was released. A body larger than
 * that is granted its excess when its header comes, since its buffer is then allocated; it holds
 * `creditBytes` until released. So the bodies that wait in the receiver never exceed creditBytes, or the
 * one body larger than it. Credit travels with frames that go anyway, or in frames of its own once a
 * quarter is owed or a body is half received.
 */
export class FrameStream {
  /** Resolves (never rejects) when the stream is over: null if both sides ended it in order. */
  readonly closed: Promise<WhittleError | null>;
  readonly sent = new FrameCounts();
  readonly received = new FrameCounts();

  readonly #duplex: FrameDuplex;
  readonly #peer: string;
  readonly #creditBytes: number;
  readonly #checksum: boolean;
  readonly #assembler: MessageAssembler;
  #handler: MessageHandler | undefined;

  /** Undefined: open. Null: ended in order. */
  #reason: WhittleError | null | undefined;
  #resolveClosed: (reason: WhittleError | null) => void = () => undefined;
  #closing = false;

  readonly #queue: Outgoing[] = [];
  #queuedBytes = 0;
  readonly #unsettled = new Set<Outgoing>();
  #pumping = false;
  #blocked = false;
  #wake: (() => void) | undefined;

  /** Bytes we may send; what the peer granted first; what the peer may send; what we owe it. */
  #credit = 0;
  #peerCreditBytes = 0;
  #granted = 0;
  #owed = 0;

  readonly #stallMilliseconds: number;
  #stallTimer: NodeJS.Timeout | undefined;
  /** performance.now() when something last moved, or when nothing was under way. */
  #lastMoved = performance.now();

  constructor(duplex: FrameDuplex, options: FrameStreamOptions) {
    this.#duplex = duplex;
    this.#peer = options.peer;
    this.#creditBytes = options.creditBytes ?? DEFAULT_CREDIT_BYTES;
    this.#checksum = options.checksum ?? true;
    this.#assembler = new MessageAssembler(options.maxBodyBytes ?? DEFAULT_MAX_BODY_BYTES, this.#checksum);
    this.#stallMilliseconds = options.stallMilliseconds ?? ('cancel' in duplex ? 0 : SERVER_STALL_MILLISECONDS);
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    this.#listen();
    if (this.#stallMilliseconds > 0) {
      this.#stallTimer = setInterval(() => this.#checkStall(), this.#stallMilliseconds / 4).unref();
    }
  }

  /** Bytes of bodies the peer may send now. */
  get grantedBytes(): number {
    return this.#granted;
  }

  /** Starts reading: until then nothing is received, and a body cannot be sent for want of credit. Call once. */
  onMessage(handler: MessageHandler): void {
    this.#handler = handler;
    this.#owed = this.#creditBytes;
    this.#flushCredit();
    this.#duplex.on('data', (frame: Frame__Output) => this.#onFrame(frame));
  }

  /**
   * Sends one message after those sent before. Resolves once the last of it is handed to the transport:
   * until then the body must not change. Rejects with the stream's error, ROLE_LOST if it ended.
   * `signal` takes a message back that has not begun; one that has begun cannot be, so the stream ends.
   */
  send(header: OutgoingHeader, body?: Body, signal?: AbortSignal): Promise<void> {
    const what = `${header.kind} to ${this.#peer}`;
    if (signal?.aborted === true) return Promise.reject(interrupted(signal, what));
    if (this.#reason !== undefined) return Promise.reject(this.#reason ?? this.#ended());
    if (this.#closing) return Promise.reject(this.#ended());
    const full = this.#queueFull();
    if (full !== null) {
      this.destroy(full);
      return Promise.reject(full);
    }
    return new Promise<void>((resolve, reject) => {
      const parts = bodyParts(body);
      const onAbort = (): void => this.#abort(outgoing, interrupted(signal, what));
      const outgoing: Outgoing = {
        header,
        parts,
        bytes: bodyBytes(parts),
        signal,
        started: false,
        settle: (error) => {
          if (!this.#unsettled.delete(outgoing)) return;
          signal?.removeEventListener('abort', onAbort);
          if (error === undefined) resolve();
          else reject(error);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#unsettled.add(outgoing);
      this.#queue.push(outgoing);
      this.#queuedBytes += outgoing.bytes;
      void this.#pump();
    });
  }

  /** Takes no more messages, sends those queued, ends this side. Resolves like `closed`. */
  close(): Promise<WhittleError | null> {
    this.#closing = true;
    void this.#pump();
    return this.closed;
  }

  /** Ends the stream now with `reason`, which pending sends reject with and the peer is told. */
  destroy(reason: WhittleError): void {
    if (!this.#finish(reason)) return;
    // A client can only cancel. A server's 'error' is grpc-js's way to end a call with a status.
    if ('cancel' in this.#duplex) this.#duplex.cancel();
    else this.#duplex.emit('error', toStatus(reason));
  }

  #listen(): void {
    const duplex = this.#duplex;
    const lost = (how: string) => (): void =>
      void this.#finish(new WhittleError('ROLE_LOST', `${this.#peer} ${how}`, { retryable: true }));
    duplex.on('drain', () => {
      this.#blocked = false;
      this.#moved();
      this.#wakeUp();
    });
    duplex.on('error', (error: ServiceError) => void this.#finish(fromStatus(error, this.#peer)));
    duplex.on('end', () => void this.#onEnd());
    if ('cancel' in duplex) {
      // Only the status says whether the server ended in order; an error was reported before.
      duplex.on('status', (result: StatusObject) => {
        if (result.code === status.OK) this.#finish(null);
      });
    } else {
      duplex.on('cancelled', lost('vanished or cancelled the stream'));
      duplex.on('finish', () => void this.#finish(null));
      duplex.on('close', lost('closed the connection'));
    }
  }

  async #onEnd(): Promise<void> {
    // A client that vanished shows as an end first, and as cancelled up to two turns of the event loop later.
    for (let turn = 0; turn < CANCEL_TURNS && this.#reason === undefined; turn++) await nextTurn();
    if (this.#reason !== undefined) return;
    const header = this.#assembler.filling;
    if (header !== undefined) this.destroy(violation(`${this.#peer} ended its stream within a ${header.kind}`));
    else if (!('cancel' in this.#duplex)) void this.close();
  }

  #onFrame(frame: Frame__Output): void {
    if (this.#reason !== undefined) return;
    this.#moved();
    if (frame.credit > 0) {
      if (this.#peerCreditBytes === 0) this.#peerCreditBytes = frame.credit;
      this.#credit += frame.credit;
      this.#wakeUp();
    }
    if (frame.header === null && frame.chunk.length === 0) {
      this.received.add(undefined, frame);
      return;
    }
    try {
      this.#granted -= frame.chunk.length;
      if (this.#granted < 0) throw violation(`${this.#peer} sent ${-this.#granted} bytes more than its credit`);
      const begun = frame.header;
      this.received.add((begun ?? this.#assembler.filling)?.kind, frame);
      const message = this.#assembler.accept(frame);
      if (message !== null) this.#deliver(message);
      else if (begun !== null) this.#owe(Math.max(0, begun.bodyBytes - this.#creditBytes));
    } catch (reason) {
      this.destroy(WhittleError.from(reason));
    }
  }

  #deliver({ header, body }: Message): void {
    let held = Math.min(header.bodyBytes, this.#creditBytes);
    const release = (): void => {
      const bytes = held;
      held = 0;
      if (bytes > 0) this.#owe(bytes);
    };
    const result = this.#handler?.(header, body, release);
    if (result === undefined) release();
    else result.then(release, (reason: unknown) => this.destroy(WhittleError.from(reason)));
  }

  #owe(bytes: number): void {
    this.#owed += bytes;
    if (4 * this.#owed >= this.#creditBytes || this.#assembler.filling !== undefined) this.#flushCredit();
  }

  #flushCredit(): void {
    const credit = this.#takeOwed();
    if (credit === 0) return;
    const frame: Frame = { credit };
    this.sent.add(undefined, frame);
    this.#duplex.write(frame);
  }

  #takeOwed(): number {
    const open = this.#reason === undefined && !this.#duplex.writableEnded;
    const credit = open ? this.#owed : 0;
    this.#owed -= credit;
    this.#granted += credit;
    return credit;
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        this.#queuedBytes -= next.bytes;
        await this.#transmit(next);
      }
      if (this.#closing && this.#reason === undefined) this.#duplex.end();
    } catch (reason) {
      this.destroy(WhittleError.from(reason));
    } finally {
      this.#pumping = false;
    }
  }

  async #transmit(message: Outgoing): Promise<void> {
    let offset = 0;
    do {
      const rest = message.bytes - offset;
      // Less than half the window is worth a frame only if it is all there is.
      const wanted = Math.min(rest, CHUNK_BYTES, Math.max(1, Math.floor(this.#peerCreditBytes / 2)));
      if (this.#blocked || this.#credit < wanted) {
        if (!this.#unsettled.has(message)) return;
        await new Promise<void>((resolve) => (this.#wake = resolve));
        continue;
      }
      if (!this.#unsettled.has(message)) return;
      const length = Math.min(rest, CHUNK_BYTES, this.#credit);
      this.#write(message, offset, length);
      offset += length;
    } while (offset < message.bytes || !message.started);
  }

  #write(message: Outgoing, offset: number, length: number): void {
    const frame: Frame = {};
    if (length > 0) frame.chunk = sliceParts(message.parts, offset, length);
    if (!message.started) {
      message.started = true;
      const crc32 = message.header.crc32 ?? (this.#checksum ? bodyChecksum(message.parts) : 0);
      frame.header = compactHeader({ ...message.header, bodyBytes: message.bytes, crc32 });
    }
    const credit = this.#takeOwed();
    if (credit > 0) frame.credit = credit;
    this.#credit -= length;
    this.#moved();
    this.sent.add(message.header.kind, frame);
    const last = offset + length === message.bytes;
    this.#blocked = !this.#duplex.write(
      frame,
      last ? (error?: Error | null) => settleUnless(error, message) : undefined,
    );
  }

  /** Why no further message to a worker is taken, or null: what it asks for costs it less than us. */
  #queueFull(): WhittleError | null {
    const waiting = this.#queue.length;
    if ('cancel' in this.#duplex || waiting < ALWAYS_QUEUED) return null;
    if (waiting < MAX_QUEUED && this.#queuedBytes <= MAX_QUEUED_BYTES) return null;
    return violation(`${this.#peer} does not read: ${waiting} messages of ${this.#queuedBytes} bytes wait for it`);
  }

  #moved(): void {
    this.#lastMoved = performance.now();
  }

  #checkStall(): void {
    const filling = this.#assembler.filling;
    // Until it has credit from us a peer cannot go on with its body.
    const waitsForIt = this.#unsettled.size > 0 || (filling !== undefined && this.#granted > 0);
    if (!waitsForIt) this.#moved();
    else if (performance.now() - this.#lastMoved >= this.#stallMilliseconds) {
      const what = this.#unsettled.size > 0 ? 'read' : 'sent the rest of its message';
      this.destroy(violation(`${this.#peer} has not ${what} for ${this.#stallMilliseconds / 1000} s`));
    }
  }

  #abort(message: Outgoing, reason: WhittleError): void {
    if (message.started) this.destroy(reason);
    else message.settle(reason);
    this.#wakeUp();
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  /** True the first time. */
  #finish(reason: WhittleError | null): boolean {
    if (this.#reason !== undefined) return false;
    this.#reason = reason;
    clearInterval(this.#stallTimer);
    for (const message of [...this.#unsettled]) message.settle(reason ?? this.#ended());
    this.#queue.length = 0;
    this.#queuedBytes = 0;
    this.#wakeUp();
    this.#resolveClosed(reason);
    return true;
  }

  #ended(): WhittleError {
    return new WhittleError('ROLE_LOST', `the stream to ${this.#peer} has ended`, { retryable: true });
  }
}

/** A failed write is followed by the stream's own error, which says more. */
function settleUnless(error: Error | null | undefined, message: Outgoing): void {
  if (error == null) message.settle();
}
