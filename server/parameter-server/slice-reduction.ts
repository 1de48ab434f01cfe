import type { Push } from './push.ts';

/**
 * The sum of one step's slices in slice order, each weighted by its share of the global batch, in float32 (the typed
 * array rounds each sum once): the same bits whoever sends them and whenever they arrive.
 */
export class SliceReduction {
  readonly #slices: number;
  readonly #batchSize: number;
  /** Packed like the pushes. */
  #gradient: Float32Array;
  readonly #state: Float32Array;
  readonly #waiting = new Map<number, Push>();
  #next = 0;
  #loss = 0;
  #senders: number[] = [];

  constructor(slices: number, batchSize: number, stateSize: number) {
    this.#slices = slices;
    this.#batchSize = batchSize;
    this.#gradient = new Float32Array(0);
    this.#state = new Float32Array(stateSize);
  }

  get isComplete(): boolean {
    return this.#next === this.#slices;
  }
  /** Stays until `begin`. */
  get gradient(): Float32Array {
    return this.#gradient;
  }
  /** Sum of the slices' changes of the non-trainable state, weighted alike. */
  get stateDelta(): Float32Array {
    return this.#state;
  }
  get loss(): number {
    return this.#loss;
  }
  /** Who sent each slice. */
  get senders(): readonly number[] {
    return this.#senders;
  }

  /** Begins a step whose pushes hold so many values; pushes that wait are dropped. */
  begin(length: number): void {
    if (this.#gradient.length !== length) this.#gradient = new Float32Array(length);
    this.#state.fill(0);
    this.#waiting.clear();
    this.#next = 0;
    this.#loss = 0;
    this.#senders = [];
  }

  has(slice: number): boolean {
    return slice < this.#next || this.#waiting.has(slice);
  }

  wait(push: Push): void {
    this.#waiting.set(push.slice, push);
  }

  /** Adds what has arrived, as far as slices are there without a gap. */
  reduce(consumed: (push: Push) => void): void {
    for (let push = this.#waiting.get(this.#next); push; push = this.#waiting.get(this.#next)) {
      this.#waiting.delete(this.#next);
      this.#add(push);
      this.#next += 1;
      consumed(push);
    }
  }

  #add(push: Push): void {
    const share = push.examples / this.#batchSize;
    const sum = this.#gradient;
    const gradient = push.gradient;
    if (this.#next === 0) for (let i = 0; i < sum.length; i += 1) sum[i] = share * gradient[i]!;
    else for (let i = 0; i < sum.length; i += 1) sum[i] = sum[i]! + share * gradient[i]!;
    for (let i = 0; i < this.#state.length; i += 1) this.#state[i] = this.#state[i]! + share * push.stateDelta[i]!;
    this.#loss += share * push.loss;
    this.#senders.push(push.sender);
  }
}
