/** Something may have changed: wakes all who wait for news. Take `next` before looking, so that no change is missed. */
export class Pulse {
  #next: Promise<void>;
  #resolve: () => void = () => undefined;

  constructor() {
    this.#next = new Promise((resolve) => (this.#resolve = resolve));
  }

  get next(): Promise<void> {
    return this.#next;
  }

  beat(): void {
    const resolve = this.#resolve;
    this.#next = new Promise((next) => (this.#resolve = next));
    resolve();
  }
}
