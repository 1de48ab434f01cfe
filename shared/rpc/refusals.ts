/** Writes one line to a role's log. */
export type WriteRefusal = (fields: Readonly<Record<string, unknown>>, message: string) => void;

/** Lines that wait for the log, and lines in a burst. */
const BURST = 100;
const REFILL_MILLISECONDS = 1_000;

/**
 * Who was refused, and why, for the role's log. Lines wait until there is one, since a server listens before it knows
 * its rank. An intruder who tries without end fills no disk: after a burst it is one line a second, with a count.
 */
export class Refusals {
  #write: WriteRefusal | null = null;
  readonly #waiting: [Readonly<Record<string, unknown>>, string][] = [];
  #allowance = BURST;
  #refilled = performance.now();
  #suppressed = 0;

  logTo(write: WriteRefusal): void {
    this.#write = write;
    for (const [fields, message] of this.#waiting.splice(0)) write(fields, message);
  }

  add(peer: string, reason: string): void {
    const now = performance.now();
    this.#allowance = Math.min(BURST, this.#allowance + (now - this.#refilled) / REFILL_MILLISECONDS);
    this.#refilled = now;
    if (this.#allowance < 1) {
      this.#suppressed += 1;
      return;
    }
    this.#allowance -= 1;
    const fields = { peer, ...(this.#suppressed > 0 && { unlogged: this.#suppressed }) };
    this.#suppressed = 0;
    const message = `refused: ${reason}`;
    if (this.#write) this.#write(fields, message);
    else this.#waiting.push([fields, message]);
  }
}
