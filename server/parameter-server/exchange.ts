import type { Header__Output } from '../../protos/generated/whittle/Header.ts';
import type { FrameStream } from '../../shared/rpc/frame-stream.ts';

/** Encoded weights at a clock, as every worker gets them; never changed once made. */
export interface Answer {
  readonly clock: number;
  readonly maskEpoch: number;
  readonly body: Uint8Array;
  readonly stateBytes: number;
}

export interface MaskVersion {
  readonly epoch: number;
  readonly bits: Uint8Array;
}

/** One worker's stream: which mask it has, and which clock it waits for. */
export class Exchange {
  readonly stream: FrameStream;
  readonly generation: number;
  readonly #onAnswer: (asked: number, answer: Answer) => void;
  #knownEpoch = -1;
  #waitsFor: number | null = null;
  #answeredAt: number | null = null;

  /** `onAnswer` hears of every answer before it is sent. */
  constructor(stream: FrameStream, generation: number, onAnswer: (asked: number, answer: Answer) => void) {
    this.stream = stream;
    this.generation = generation;
    this.#onAnswer = onAnswer;
  }

  /** How long the worker has had the weights of its last answer; null before the first. */
  get millisecondsSinceAnswer(): number | null {
    return this.#answeredAt === null ? null : performance.now() - this.#answeredAt;
  }

  /** Answers as soon as the clock is reached: now, or when `offer` brings it. */
  want(clock: number, retained: readonly Answer[], masks: readonly MaskVersion[]): void {
    this.#waitsFor = clock;
    // The exact clock where it is still kept, else the newest that is not older.
    const exact = retained.find((answer) => answer.clock === clock);
    const newer = retained.findLast((answer) => answer.clock > clock);
    const answer = exact ?? newer;
    if (answer) this.offer(answer, masks);
  }

  /** Answers with the newest weights there are as soon as they are of `clock` or later. */
  wantNewest(clock: number, retained: readonly Answer[], masks: readonly MaskVersion[]): void {
    this.#waitsFor = clock;
    const newest = retained.at(-1);
    if (newest) this.offer(newest, masks);
  }

  offer(answer: Answer, masks: readonly MaskVersion[]): void {
    if (this.#waitsFor === null || answer.clock < this.#waitsFor) return;
    this.#onAnswer(this.#waitsFor, answer);
    this.#waitsFor = null;
    this.#answeredAt = performance.now();
    const { generation } = this;
    const { clock, maskEpoch } = answer;
    const mask = masks.find(({ epoch }) => epoch === maskEpoch);
    if (this.#knownEpoch !== maskEpoch && mask) {
      this.#knownEpoch = maskEpoch;
      this.#send({ kind: 'MASK', generation, clock, maskEpoch }, mask.bits);
    }
    this.#send({ kind: 'WEIGHTS', generation, clock, maskEpoch, stateBytes: answer.stateBytes }, answer.body);
  }

  refuse(header: Header__Output, reason: string): void {
    const { generation } = this;
    this.#send({ kind: 'REFUSED', generation, clock: header.clock, slice: header.slice, reason }, undefined);
  }

  #send(header: Parameters<FrameStream['send']>[0], body: Uint8Array | undefined): void {
    // A stream that ends says so by its `closed`; a worker that is gone waits for no answer.
    this.stream.send(header, body).catch(() => undefined);
  }
}
