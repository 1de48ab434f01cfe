/** Something that happens once: set it, ask whether it is set, wait for it. Later sets change nothing. */
export class Signal<T> {
  readonly value: Promise<T>;
  #resolve: (value: T) => void = () => undefined;
  #isSet = false;

  constructor() {
    this.value = new Promise((resolve) => (this.#resolve = resolve));
  }

  get isSet(): boolean {
    return this.#isSet;
  }

  set(value: T): void {
    this.#isSet = true;
    this.#resolve(value);
  }
}
