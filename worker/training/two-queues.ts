/** One piece of work at a time: first all of one queue, then the other's next. */
export class TwoQueues {
  readonly #first: (() => Promise<void>)[] = [];
  readonly #last: (() => Promise<void>)[] = [];
  #isRunning = false;

  /** Runs `work` before everything in the last queue. */
  first<T>(work: () => T | Promise<T>): Promise<T> {
    return this.#enqueue(this.#first, work);
  }

  /** Runs `work` when the first queue is empty. */
  last<T>(work: () => T | Promise<T>): Promise<T> {
    return this.#enqueue(this.#last, work);
  }

  #enqueue<T>(queue: (() => Promise<void>)[], work: () => T | Promise<T>): Promise<T> {
    const result = new Promise<T>((resolve, reject) => {
      queue.push(async () => {
        try {
          resolve(await work());
        } catch (reason) {
          reject(reason);
        }
      });
    });
    if (!this.#isRunning) void this.#run();
    return result;
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    for (;;) {
      const urgent = this.#first.shift();
      if (urgent !== undefined) {
        await urgent();
        continue;
      }
      if (this.#last.length === 0) break;
      // Messages that came meanwhile are delivered first: one may ask for a slice.
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#first.length === 0) await this.#last.shift()?.();
    }
    this.#isRunning = false;
  }
}
