import type { ClusterApi } from './api.ts';
import { CONTAINER } from './names.ts';

/** A line of a pod's log. */
export interface PodLogLine {
  /** ISO time at which the node took it, with nanoseconds. */
  readonly time: string;
  readonly text: string;
}

/** Seconds that a look goes further back than the last one: requests take their time. */
const OVERLAP = 10;

/**
 * Reads the lines of a pod's log, each once. Asks again and again, each time for what came since: a stream would break
 * with every proxy, and what it lost in between would be lost.
 */
export class PodLog {
  readonly pod: string;
  readonly #api: ClusterApi;
  readonly #tailLines: number | undefined;
  #readAt: number | null = null;
  #last = '';
  /** Lines of that very time. */
  #atLast = new Set<string>();

  constructor(api: ClusterApi, pod: string, tailLines?: number) {
    this.#api = api;
    this.pod = pod;
    this.#tailLines = tailLines;
  }

  async read(): Promise<PodLogLine[]> {
    const now = Date.now();
    // By the elapsed time here, so that no clock needs to agree with the node's.
    const request =
      this.#readAt !== null
        ? { sinceSeconds: Math.ceil((now - this.#readAt) / 1000) + OVERLAP }
        : this.#tailLines === undefined
          ? {}
          : { tailLines: this.#tailLines };
    const text = await this.#api.log(this.pod, CONTAINER, request);
    const lines = text.split('\n').filter((line) => line !== '');
    if (lines.length > 0) this.#readAt = now;
    return lines.map(timed).filter((line) => this.#isNew(line));
  }

  #isNew({ time, text }: PodLogLine): boolean {
    if (time < this.#last || (time === this.#last && this.#atLast.has(text))) return false;
    if (time > this.#last) this.#atLast = new Set();
    this.#last = time;
    this.#atLast.add(text);
    return true;
  }
}

/** `2026-08-01T12:00:00.12Z text`: the fraction has no trailing zeros, so it is filled up for times to compare as text. */
function timed(line: string): PodLogLine {
  const [, seconds = '', fraction = '', text = line] =
    /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z (.*)$/.exec(line) ?? [];
  return { time: seconds === '' ? '' : `${seconds}.${fraction.padEnd(9, '0')}Z`, text };
}
