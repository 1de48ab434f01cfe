import { WhittleError } from '../../shared/errors.ts';

/** Goings back to one and the same step, without a step beyond it between them, after which the run fails. */
const MOST_IN_PLACE = 5;

/** Ends a run that goes back again and again without getting further. */
export class RollbackLimit {
  #inPlace = 0;
  /** The furthest step that a going back began from. */
  #furthest = -1;

  /** Counts one, at `step`. Errors: ROLE_LOST where it was one too many. */
  count(step: number, cause: WhittleError): void {
    this.#inPlace = step > this.#furthest ? 1 : this.#inPlace + 1;
    this.#furthest = Math.max(this.#furthest, step);
    if (this.#inPlace <= MOST_IN_PLACE) return;
    throw new WhittleError(
      'ROLE_LOST',
      `went back ${MOST_IN_PLACE} times without getting beyond step ${step}; the last time: ${cause.rawMessage}`,
    );
  }
}
