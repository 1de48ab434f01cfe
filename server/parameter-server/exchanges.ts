import type { WhittleError } from '../../shared/errors.ts';
import type { FrameStream } from '../../shared/rpc/frame-stream.ts';
import type { Answer, Exchange, MaskVersion } from './exchange.ts';

/** Bytes by kind, with their frames' headers. */
export interface Traffic {
  readonly pushed: number;
  readonly pulled: number;
  readonly masks: number;
}

/** The streams of all workers, and what went over those there are and those there were. */
export class Exchanges {
  readonly #open = new Set<Exchange>();
  #ended: Traffic = { pushed: 0, pulled: 0, masks: 0 };

  get traffic(): Traffic {
    return [...this.#open].reduce((total, { stream }) => sum(total, trafficOf(stream)), this.#ended);
  }

  /** Until its stream ends. */
  add(exchange: Exchange): void {
    this.#open.add(exchange);
    void exchange.stream.closed.then(() => {
      this.#open.delete(exchange);
      this.#ended = sum(this.#ended, trafficOf(exchange.stream));
    });
  }

  offer(answer: Answer, masks: readonly MaskVersion[]): void {
    for (const exchange of this.#open) exchange.offer(answer, masks);
  }

  destroy(reason: WhittleError): void {
    for (const { stream } of this.#open) stream.destroy(reason);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open].map(({ stream }) => stream.close()));
  }
}

function sum(a: Traffic, b: Traffic): Traffic {
  return { pushed: a.pushed + b.pushed, pulled: a.pulled + b.pulled, masks: a.masks + b.masks };
}

function trafficOf({ sent, received }: FrameStream): Traffic {
  const all = (count: { bodyBytes: number; overheadBytes: number }): number => count.bodyBytes + count.overheadBytes;
  return {
    pushed: all(received.of('PUSH')),
    pulled: all(sent.of('WEIGHTS')),
    masks: all(sent.of('MASK')),
  };
}
